/** The command line in this process, over the shipped plugins and SDK, with its streams taken. */
import { spyOn } from "bun:test";
import { isPluginFactory } from "../../core/plugin-value.ts";
import { main } from "../../cli/run.ts";
import * as plugins from "../../plugins/index.ts";

export interface Ended {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

const services = {
  sdk: () => import("../../index.ts"),
  plugins: () => Promise.resolve(Object.values(plugins).filter((value) => isPluginFactory(value))),
};

export async function qlora(...argv: string[]): Promise<Ended> {
  const taken = { stdout: "", stderr: "" };
  const spies = (["stdout", "stderr"] as const).map((name) =>
    spyOn(process[name], "write").mockImplementation((text: unknown, done?: unknown) => {
      taken[name] += String(text);
      if (typeof done === "function") done();
      return true;
    }),
  );
  try {
    const code = await main(argv, services);
    return { code, ...taken };
  } finally {
    for (const spy of spies) spy.mockRestore();
  }
}
