import { defineCommand } from "citty";

export default defineCommand({
  meta: { name: "presets", description: "List the presets, or print one as JSON" },
  args: { name: { type: "positional", required: false, description: "a preset, to print its config" } },
  async run(context) {
    const { showPresets } = await import("./presets.run.ts");
    return showPresets(context.args.name);
  },
});
