/** A LoRA adapter's folder, as PEFT writes and reads it. */
import { join } from "node:path";
import { readFloats } from "../../core/checkpoint.ts";
import { ModelError } from "../../core/errors.ts";
import { writeFileAtomic } from "../../core/files.ts";
import type { ParameterShape } from "../../core/parameters.ts";
import { ADAPTER_CONFIG_FILE, ADAPTER_METADATA, ADAPTER_WEIGHTS_FILE, formatLoraConfig, formatModelCard, MODEL_CARD_FILE, type PeftLoraConfig } from "../../core/peft.ts";
import { openSafetensors, writeSafetensors } from "../../core/safetensors.ts";

/** Writes adapter_config.json, adapter_model.safetensors (f32) and README.md. */
export async function saveAdapterFiles(
  directory: string,
  config: PeftLoraConfig,
  shapes: readonly ParameterShape[],
  values: ReadonlyMap<string, Float32Array<ArrayBuffer>>,
): Promise<void> {
  const tensors = shapes.map(({ name, shape }) => {
    const data = values.get(name);
    if (data === undefined) throw new RangeError(`no value of ${name} to save`);
    return [name, { dtype: "F32", shape, data }] as const;
  });
  await writeSafetensors(join(directory, ADAPTER_WEIGHTS_FILE), tensors, ADAPTER_METADATA);
  await writeFileAtomic(join(directory, ADAPTER_CONFIG_FILE), formatLoraConfig(config));
  const body = `LoRA adapter (r ${config.r}, alpha ${config.loraAlpha}) and score head of a sequence classifier, trained by qlora.`;
  await writeFileAtomic(join(directory, MODEL_CARD_FILE), formatModelCard(config.baseModelNameOrPath, "lora", body));
}

/**
 * Reads every tensor of `shapes`.
 * @throws ModelError naming the tensor that is missing, superfluous or of another shape
 */
export async function loadAdapterTensors(directory: string, shapes: readonly ParameterShape[]): Promise<Map<string, Float32Array<ArrayBuffer>>> {
  await using file = await openSafetensors(join(directory, ADAPTER_WEIGHTS_FILE));
  const wanted = new Set(shapes.map(({ name }) => name));
  const surplus = [...file.tensors.keys()].find((name) => !wanted.has(name));
  if (surplus !== undefined) {
    throw new ModelError("ADAPTER_TENSOR_UNKNOWN", `${file.path}: tensor "${surplus}" has no place in the configured adapter`, {
      hint: "Configure the target modules and layers that the adapter was trained with.",
    });
  }
  const values = new Map<string, Float32Array<ArrayBuffer>>();
  for (const { name, shape } of shapes) {
    const info = file.tensors.get(name);
    if (info !== undefined && info.shape.join() !== shape.join()) {
      throw new ModelError("ADAPTER_SHAPE", `${file.path}: tensor "${name}" is [${info.shape.join(",")}], the configured adapter needs [${shape.join(",")}]`, {
        hint: "Use the rank, target modules and number of labels that the adapter was trained with.",
      });
    }
    values.set(name, (await readFloats(file, name, shape)) as Float32Array<ArrayBuffer>);
  }
  return values;
}
