import { defineCommand } from "citty";
import { dataOf, type CommandModule } from "../command.ts";
import { configArgs } from "../shared-args.ts";

export const prepare: CommandModule["prepare"] = async (...args) =>
  (await import("../config-flags.ts")).prepareConfig(...args);

export default defineCommand({
  meta: { name: "cv", description: "Cross-validate: train every fold, write out-of-fold predictions and a table" },
  args: {
    ...configArgs,
    folds: { type: "string", valueHint: "N", description: "Number of folds (default: 5)" },
    gpus: { type: "string", valueHint: "N|all", description: "Run on so many GPUs of this machine, through mpirun" },
    json: { type: "boolean", description: "Print the result as JSON on stdout" },
  },
  async run(context) {
    const { crossValidate } = await import("./cv.run.ts");
    const { folds, "print-config": printConfig = false, json = false } = context.args;
    return crossValidate(dataOf(context), { folds, printConfig, json });
  },
});
