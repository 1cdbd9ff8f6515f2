import { defineCommand } from "citty";
import { dataOf, type CommandModule } from "../command.ts";

export const prepare: CommandModule["prepare"] = async (argv, services) =>
  (await import("../reporter-flags.ts")).prepareReporters(argv, services);

export default defineCommand({
  meta: { name: "sync", description: "Send a run to trackers: what they did not get while it trained, or all of it" },
  args: {
    run: { type: "positional", required: true, description: "the output folder of a run" },
    "report-to": {
      type: "string",
      valueHint: "plugins",
      description: "Trackers, comma-separated (default: those of the run)",
    },
    "trust-remote-code": {
      type: "boolean",
      description: "Run the code of a plugin that the run's record names by a file",
    },
    json: { type: "boolean", description: "Print what was sent as JSON on stdout" },
  },
  async run(context) {
    const { sync } = await import("./sync.run.ts");
    const { run, "trust-remote-code": trustRemoteCode = false, "report-to": reportTo, json = false } = context.args;
    return sync(dataOf(context), { run, reportTo, trustRemoteCode, json });
  },
});
