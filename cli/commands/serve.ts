import { defineCommand } from "citty";
import { dataOf, type CommandModule } from "../command.ts";
import { inferenceArgs } from "../shared-args.ts";

export const variadic = true;

export const prepare: CommandModule["prepare"] = async () => {
  const { serveOptions } = await import("../../sdk/serve/index.ts");
  const { inferenceGroups } = await import("../inference-flags.ts");
  const server = { title: "Server", section: "serve", flat: true, shape: serveOptions.shape };
  return { groups: [server, ...inferenceGroups] };
};

export default defineCommand({
  meta: { name: "serve", description: "Judge over HTTP: POST /classify, /score, a page at /" },
  args: {
    ...inferenceArgs,
    files: {
      type: "positional",
      required: false,
      description: "further adapters on the same base; requests name them, by the last parts of their paths, as model",
    },
  },
  async run(context) {
    const { serve } = await import("./serve.run.ts");
    const { "base-model": baseModel, "trust-remote-code": trustRemoteCode = false } = context.args;
    return serve(dataOf(context), { baseModel, trustRemoteCode });
  },
});
