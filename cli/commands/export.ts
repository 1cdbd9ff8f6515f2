import { defineCommand } from "citty";
import { dataOf, type CommandModule } from "../command.ts";

export const prepare: CommandModule["prepare"] = async () => {
  const [{ dataOptions }, { folderServerOptions }] = await Promise.all([
    import("../../runtime/config/data-options.ts"),
    import("../../runtime/http/folder.ts"),
  ]);
  const { format, maxLength, truncate, promptMaxTokens, addBosToken, addEosToken } = dataOptions.shape;
  const shape = { format, maxLength, truncate, promptMaxTokens, addBosToken, addEosToken };
  return {
    groups: [
      { title: "Data (default: as the run was trained)", section: "data", flat: true, shape, recorded: true },
      { title: "Server (--serve)", section: "server", flat: true, shape: folderServerOptions.shape },
    ],
  };
};

export default defineCommand({
  meta: { name: "export", description: "Write a trained judge as a web page that runs on its visitors' GPUs" },
  args: {
    target: { type: "positional", description: "web" },
    run: {
      type: "positional",
      description: "the output folder of a run, one of its checkpoints, or a PEFT adapter's folder",
    },
    output: { type: "string", valueHint: "folder", description: "Write the page here (required)" },
    overwrite: { type: "boolean", description: "Replace a page that the folder holds" },
    title: { type: "string", valueHint: "text", description: "Heading of the page (default: the run's folder)" },
    "base-model": {
      type: "string",
      valueHint: "checkpoint",
      description: "Base model (a folder or a hub id), where it is another than the run's",
    },
    serve: { type: "boolean", description: "Serve the page on 127.0.0.1 afterwards, until Ctrl-C" },
    json: { type: "boolean", description: "Print what was written as JSON" },
  },
  async run(context) {
    const { exportRun } = await import("./export.run.ts");
    const { "base-model": baseModel, output, overwrite = false, title, serve = false, json = false } = context.args;
    return exportRun(dataOf(context), { baseModel, output, overwrite, title, serve, json });
  },
});
