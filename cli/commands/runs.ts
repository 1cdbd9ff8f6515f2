import { defineCommand } from "citty";
import { dataOf } from "../command.ts";

export const variadic = true;

export default defineCommand({
  meta: { name: "runs", description: "List the runs below a folder, or compare some: qlora runs compare A B" },
  args: {
    folders: {
      type: "positional",
      required: false,
      description: 'folders to look in (default: output); or "compare" and the folders of two or more runs',
    },
    sort: {
      type: "string",
      valueHint: "column",
      description: "started (default), name, steps, train-loss, samples-per-second, or a metric such as log-loss",
    },
    json: { type: "boolean", description: "Print everything as JSON on stdout" },
  },
  async run(context) {
    const { runs } = await import("./runs.run.ts");
    return runs(dataOf(context).positionals, { sort: context.args.sort, json: context.args.json ?? false });
  },
});
