import { configToJson, defineConfig } from "../../runtime/config/config.ts";
import { findPreset, presets } from "../../sdk/presets.ts";
import { columns, writeData, writeJson } from "../output.ts";

/** Lists the presets, or prints one as JSON. */
export async function showPresets(name: string | undefined): Promise<void> {
  if (name !== undefined) return writeJson(configToJson(defineConfig(findPreset(name).config())));
  await writeData(columns(presets.map((preset) => [preset.name, preset.description])));
}
