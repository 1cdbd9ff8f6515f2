import { defineCommand } from "citty";
import { dataOf, type CommandModule } from "../command.ts";
import { configArgs } from "../shared-args.ts";

export const prepare: CommandModule["prepare"] = async (...args) =>
  (await import("../config-flags.ts")).prepareConfig(...args);

export default defineCommand({
  meta: {
    name: "sweep",
    description: "Train an arm for each choice of a plan's options; compare them in a table and a page",
  },
  args: {
    file: {
      type: "positional",
      required: true,
      valueHint: "FILE",
      description: "The plan, JSON: method, parameters ...",
    },
    ...configArgs,
    gpus: { type: "string", valueHint: "N|all", description: "Run on so many GPUs of this machine, through mpirun" },
    json: { type: "boolean", description: "Print the result as JSON on stdout" },
  },
  async run(context) {
    const { runSweep } = await import("./sweep.run.ts");
    const { file, "print-config": printConfig = false, json = false } = context.args;
    return runSweep(dataOf(context), { file, printConfig, json });
  },
});
