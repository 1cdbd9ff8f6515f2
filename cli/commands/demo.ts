import { defineCommand } from "citty";
import { dataOf, type CommandModule } from "../command.ts";

export const prepare: CommandModule["prepare"] = async () => {
  const { deviceOptions } = await import("../../runtime/config/device-options.ts");
  const { gpu } = deviceOptions.shape;
  return { groups: [{ title: "Device", section: "device", flat: true, shape: { gpu } }] };
};

export default defineCommand({
  meta: { name: "demo", description: "Train, evaluate and predict with the bundled tiny Gemma-2" },
  async run(context) {
    const { demo } = await import("./demo.run.ts");
    return demo(dataOf(context));
  },
});
