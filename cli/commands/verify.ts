import { defineCommand } from "citty";
import { dataOf } from "../command.ts";

export const variadic = true;

export default defineCommand({
  meta: {
    name: "verify",
    description: "Tell what of a run is whole, by the sha256 of its files; remove what a killed process left half",
  },
  args: {
    run: {
      type: "positional",
      required: true,
      description: "folder of a run, a cross-validation, a checkpoint or an adapter",
    },
    "dry-run": { type: "boolean", description: "Change nothing, only tell" },
    json: { type: "boolean", description: "Print everything as JSON on stdout" },
  },
  async run(context) {
    const { verify } = await import("./verify.run.ts");
    const { "dry-run": dryRun = false, json = false } = context.args;
    return verify(dataOf(context).positionals, { dryRun, json });
  },
});
