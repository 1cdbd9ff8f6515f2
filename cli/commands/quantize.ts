import { defineCommand } from "citty";
import { dataOf, type CommandModule } from "../command.ts";

export const prepare: CommandModule["prepare"] = async () => {
  const { deviceGroup } = await import("../config-flags.ts");
  const { quantizationShape } = await import("../../core/plugin/quantization-options.ts");
  const { loadIn4bit: _, ...shape } = quantizationShape;
  return { groups: [{ title: "Quantization", section: "quantize", flat: true, shape }, deviceGroup] };
};

export default defineCommand({
  meta: {
    name: "quantize",
    description: "Quantize a checkpoint in 16 bits to 4, as bitsandbytes does it: transformers loads what is written",
  },
  args: {
    model: { type: "positional", required: true, description: "folder of the checkpoint, or its name on the hub" },
    output: { type: "string", valueHint: "folder", description: "Write the checkpoint here (required)" },
    revision: { type: "string", valueHint: "name", description: "Branch, tag or commit of a hub checkpoint" },
    overwrite: { type: "boolean", description: "Replace a checkpoint that the folder holds" },
    json: { type: "boolean", description: "Print what was written as JSON" },
  },
  async run(context) {
    const { quantize } = await import("./quantize.run.ts");
    const { output, revision, overwrite = false, json = false } = context.args;
    return quantize(dataOf(context), { output, revision, overwrite, json });
  },
});
