import { defineCommand } from "citty";
import { dataOf, type CommandModule } from "../command.ts";
import { configArgs } from "../shared-args.ts";

export const prepare: CommandModule["prepare"] = async (...args) =>
  (await import("../config-flags.ts")).prepareConfig(...args);

export default defineCommand({
  meta: { name: "train", description: "Train an adapter and a classification head on a 4-bit base model" },
  args: {
    ...configArgs,
    "dry-run": { type: "boolean", description: "Read the data, check the checkpoint and the device, and stop" },
    gpus: { type: "string", valueHint: "N|all", description: "Run on so many GPUs of this machine, through mpirun" },
    json: { type: "boolean", description: "Print the result as JSON on stdout" },
  },
  async run(context) {
    const { train } = await import("./train.run.ts");
    const { "print-config": printConfig = false, "dry-run": dryRun = false, json = false } = context.args;
    return train(dataOf(context), { printConfig, dryRun, json });
  },
});
