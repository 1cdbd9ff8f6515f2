/** The tiny Gemma-3 as checkpoints of images and text were published: old names, `text_config`, tensors that a text has no use for. */
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { openSafetensors, writeSafetensors } from "../../runtime/files/folder.ts";
import { goldenPath } from "./reference.ts";

const tiny = goldenPath("turn2", "tiny-gemma3-nf4");

/** Writes it into a folder that exists. */
export async function writeGemma3Images(folder: string): Promise<void> {
  await using file = await openSafetensors(join(tiny, "model.safetensors"));
  const tensors = [...file.tensors].map(([name, { dtype, shape }]) => {
    return [`language_model.${name}`, { dtype, shape, data: () => file.read(name) }] as const;
  });
  const vision = { dtype: "BF16", shape: [2], data: new Uint16Array(2) } as const;
  const all = [
    ...tensors,
    ["vision_tower.embeddings.weight", vision],
    ["language_model.lm_head.weight", vision],
  ] as const;
  await writeSafetensors(join(folder, "model.safetensors"), all, { format: "pt" });
  const {
    quantization_config: quantization,
    dtype,
    ...text
  } = JSON.parse(await readFile(join(tiny, "config.json"), "utf8")) as Record<string, unknown>;
  const config = {
    architectures: ["Gemma3ForConditionalGeneration"],
    model_type: "gemma3",
    text_config: text,
    vision_config: { model_type: "siglip_vision_model" },
    quantization_config: quantization,
    dtype,
  };
  await writeFile(join(folder, "config.json"), JSON.stringify(config));
}

/** A folder's tensors by name. */
export async function tensorNames(folder: string): Promise<readonly string[]> {
  await using file = await openSafetensors(join(folder, "model.safetensors"));
  return [...file.tensors.keys()];
}
