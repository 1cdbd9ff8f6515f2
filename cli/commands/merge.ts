import { defineCommand } from "citty";
import { dataOf, type CommandModule } from "../command.ts";
import { inferenceArgs } from "../shared-args.ts";

export const variadic = true;

export const prepare: CommandModule["prepare"] = async () => ({
  groups: (await import("../inference-flags.ts")).inferenceGroups,
});

export default defineCommand({
  meta: {
    name: "merge",
    description: "Merge an adapter into its base: a bf16 checkpoint, the logit difference measured",
  },
  args: {
    ...inferenceArgs,
    output: { type: "string", valueHint: "folder", description: "Write the checkpoint here (required)" },
    overwrite: { type: "boolean", description: "Replace a checkpoint that the folder holds" },
    rows: {
      type: "string",
      valueHint: "N",
      description: "Measure on the first N rows of the files, or of the run's evaluation data; 0: do not (default: 20)",
    },
    json: { type: "boolean", description: "Print what was written and measured as JSON" },
  },
  async run(context) {
    const { merge } = await import("./merge.run.ts");
    const {
      "base-model": baseModel,
      "trust-remote-code": trustRemoteCode = false,
      output,
      overwrite = false,
      rows,
      json = false,
    } = context.args;
    return merge(dataOf(context), { baseModel, trustRemoteCode, output, overwrite, rows, json });
  },
});
