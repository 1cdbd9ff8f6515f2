import { defineCommand } from "citty";
import { dataOf, type CommandModule } from "../command.ts";
import { configArgs } from "../shared-args.ts";

export const prepare: CommandModule["prepare"] = async (...args) =>
  (await import("../plan-flags.ts")).preparePlan(...args);

export default defineCommand({
  meta: {
    name: "plan",
    description: "Say how much GPU memory a run will take, and which settings fit; loads no weights",
  },
  args: {
    ...configArgs,
    json: { type: "boolean", description: "Print the plan as JSON" },
  },
  async run(context) {
    const { plan } = await import("./plan.run.ts");
    const { "print-config": printConfig = false, json = false } = context.args;
    return plan(dataOf(context), { printConfig, json });
  },
});
