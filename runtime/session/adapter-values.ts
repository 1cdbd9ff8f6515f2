/** What an adapter saves and merges: the trained values, and those of what it reads and nothing trains. */
import type { Adapter } from "../../core/plugin/adapter.ts";
import type { Session } from "./session.ts";

type Values = Map<string, Float32Array<ArrayBuffer>>;

/** Values of a session's parameters (head included) and frozen tensors, by name, read back from the GPU. */
export async function adapterValues({ parameters, frozen }: Pick<Session, "parameters" | "frozen">): Promise<Values> {
  return new Map([...(await parameters.readValues()), ...(await frozen.readValues())]);
}

/** What `load` gave, with the declared values of the frozen tensors that it left out. */
export function withFrozenValues({ frozen = [] }: Pick<Adapter, "frozen">, loaded: Values): Values {
  const rest = frozen.filter(({ name }) => !loaded.has(name)).map((spec) => [spec.name, spec.initial()] as const);
  return new Map([...loaded, ...rest]);
}
