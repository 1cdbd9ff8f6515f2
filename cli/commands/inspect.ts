import { defineCommand } from "citty";
import { dataOf, type CommandModule } from "../command.ts";
import { configArgs } from "../shared-args.ts";

export const prepare: CommandModule["prepare"] = async (...args) =>
  (await import("../config-flags.ts")).prepareConfig(...args);

export default defineCommand({
  meta: { name: "inspect", description: "Print the parameter table of a model with its adapter, from headers only" },
  args: { ...configArgs, json: { type: "boolean", description: "Print the table as JSON" } },
  async run(context) {
    const { inspect } = await import("./inspect.run.ts");
    const { "print-config": printConfig = false, json = false } = context.args;
    return inspect(dataOf(context), { printConfig, json });
  },
});
