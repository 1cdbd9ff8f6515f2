import { defineCommand } from "citty";
import { dataOf, type CommandModule } from "../command.ts";

export const prepare: CommandModule["prepare"] = async () => {
  const { deviceOptions } = await import("../../runtime/config/device-options.ts");
  return { groups: [{ title: "Device", section: "device", flat: true, shape: deviceOptions.shape }] };
};

export default defineCommand({
  meta: { name: "doctor", description: "Show the GPU that qlora finds, and test that it computes right" },
  args: { json: { type: "boolean", description: "Print the report as JSON" } },
  async run(context) {
    const { doctor } = await import("./doctor.run.ts");
    return doctor(dataOf(context), context.args.json ?? false);
  },
});
