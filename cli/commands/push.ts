import { defineCommand } from "citty";
import { dataOf } from "../command.ts";

export default defineCommand({
  meta: { name: "push", description: "Push an adapter or a merged model to the hub, with a model card; private" },
  args: {
    folder: {
      type: "positional",
      required: true,
      description: "folder of a finished run, a checkpoint, an adapter or a merged model",
    },
    repo: {
      type: "string",
      valueHint: "org/name",
      description: "Repository of the hub, made where there is none (required)",
    },
    public: { type: "boolean", description: "Make a new repository public (default: private)" },
    branch: { type: "string", valueHint: "name", description: "Branch (default: main)" },
    "base-model": {
      type: "string",
      valueHint: "org/name",
      description: "Name of the base on the hub, where the run's is a folder",
    },
    json: { type: "boolean", description: "Print what was pushed as JSON on stdout" },
  },
  async run(context) {
    const { runPush } = await import("./push.run.ts");
    const { folder, repo, public: open = false, branch, "base-model": baseModel, json = false } = context.args;
    return runPush(dataOf(context), { folder, repo, public: open, branch, baseModel, json });
  },
});
