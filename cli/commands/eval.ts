import { defineCommand } from "citty";
import { dataOf, type CommandModule } from "../command.ts";
import { inferenceArgs } from "../shared-args.ts";

export const variadic = true;

export const prepare: CommandModule["prepare"] = async () => ({
  groups: (await import("../inference-flags.ts")).inferenceGroups,
});

export default defineCommand({
  meta: { name: "eval", description: "Evaluate a trained adapter and print its metrics" },
  args: {
    ...inferenceArgs,
    tta: {
      type: "enum",
      options: ["none", "swap"],
      description: "swap: score the mean of the probabilities of each arena row and of the row with A and B exchanged",
    },
    gpus: { type: "string", valueHint: "N|all", description: "Run on so many GPUs of this machine, through mpirun" },
    json: { type: "boolean", description: "Print the metrics as JSON" },
  },
  async run(context) {
    const { evaluate } = await import("./inference.run.ts");
    const {
      "base-model": baseModel,
      "trust-remote-code": trustRemoteCode = false,
      json = false,
      tta = "none",
    } = context.args;
    return evaluate(dataOf(context), { baseModel, trustRemoteCode, json, tta });
  },
});
