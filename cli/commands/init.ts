import { defineCommand } from "citty";

export default defineCommand({
  meta: { name: "init", description: "Write a commented qlora.config.ts into this folder" },
  args: { preset: { type: "string", valueHint: "name", description: "Start from a preset; see qlora presets" } },
  async run(context) {
    const { init } = await import("./init.run.ts");
    return init(context.args.preset);
  },
});
