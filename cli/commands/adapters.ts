import { defineCommand } from "citty";
import { dataOf } from "../command.ts";

export const variadic = true;

export default defineCommand({
  meta: { name: "adapters", description: "Average trained adapters of one config, head included" },
  args: {
    action: { type: "positional", description: "average" },
    adapters: { type: "positional", description: "output folders of runs, checkpoints, or PEFT adapters" },
    output: { type: "string", valueHint: "folder", description: "Write the adapter here (required)" },
    json: { type: "boolean", description: "Print what was done as JSON" },
  },
  async run(context) {
    const { runAdapters } = await import("./adapters.run.ts");
    const { output, json = false } = context.args;
    return runAdapters(dataOf(context).positionals, { output, json });
  },
});
