import { defineCommand } from "citty";
import { dataOf } from "../command.ts";

export default defineCommand({
  meta: {
    name: "plugin",
    description: "Start a package for a model, adapter, optimizer, metric or reporter of your own",
  },
  args: {
    action: { type: "positional", description: "new" },
    kind: { type: "positional", description: "model, adapter, optimizer, metric or reporter" },
    name: { type: "positional", description: "name on the command line, e.g. adan or @me/adan" },
    output: { type: "string", valueHint: "folder", description: "Write it here (default: ./qlora-plugin-<name>)" },
  },
  async run(context) {
    const { runPlugin } = await import("./plugin.run.ts");
    return runPlugin(dataOf(context).positionals, context.args.output);
  },
});
