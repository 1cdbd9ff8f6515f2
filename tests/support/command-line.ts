/** The command line in this process, with its streams taken. */
import { spyOn } from "bun:test";
import { main } from "../../cli/run.ts";
import type { Services } from "../../cli/sdk.ts";
import { isPluginFactory } from "../../core/plugin/factory.ts";
import * as plugins from "../../plugins/index.ts";

export interface Ended {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

const shipped: Services = {
  sdk: () => import("../../index.ts"),
  plugins: () => Promise.resolve(Object.values(plugins).filter((value) => isPluginFactory(value))),
};

/** Runs a command line over `services`. */
export async function runOver(services: Services, argv: readonly string[]): Promise<Ended> {
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

/** The same over the SDK and the plugins that ship. */
export const qlora = (...argv: string[]): Promise<Ended> => runOver(shipped, argv);
