/** The files of an adapter's folder, whatever the adapter: config, tensors in f32, model card. */
import type { ParameterShape } from "../compute/parameters.ts";
import { ModelError } from "../errors.ts";
import type { FilesToWrite, Folder } from "../formats/bytes.ts";
import { readFloats } from "../formats/checkpoint.ts";
import {
  ADAPTER_CONFIG_FILE,
  ADAPTER_METADATA,
  ADAPTER_WEIGHTS_FILE,
  MODEL_CARD_FILE,
  savedModuleKey,
} from "../formats/peft.ts";
import { safetensorsBytes } from "../formats/safetensors.ts";
import { isUnused, oneLogit, openAdapterTensors, surplusTensor } from "./saved-tensors.ts";

/** What an adapter's folder holds. */
export interface AdapterContent {
  /** Text of adapter_config.json. */
  readonly config: string;
  /** Text of README.md; see `formatModelCard`. */
  readonly card: string;
  /** Every tensor of adapter_model.safetensors: the adapter's parameters and the head's. */
  readonly shapes: readonly ParameterShape[];
  readonly values: ReadonlyMap<string, Float32Array<ArrayBuffer>>;
}

/**
 * The files of an adapter's folder: adapter_model.safetensors (f32), adapter_config.json and README.md.
 * @throws RangeError where a tensor has no value
 */
export function adapterFiles({ config, card, shapes, values }: AdapterContent): FilesToWrite {
  const tensors = shapes.map(({ name, shape }) => {
    const data = values.get(name);
    if (data === undefined) throw new RangeError(`no value of ${name} to save`);
    return [name, { dtype: "F32", shape, data }] as const;
  });
  return [
    [ADAPTER_WEIGHTS_FILE, safetensorsBytes(tensors, ADAPTER_METADATA)],
    [ADAPTER_CONFIG_FILE, config],
    [MODEL_CARD_FILE, card],
  ];
}

/**
 * Reads every tensor of `shapes` from an adapter's folder, and of `optional` those that are there.
 * @throws ModelError naming the tensor that is missing, superfluous or of another shape
 */
export async function loadAdapterTensors(
  folder: Folder,
  shapes: readonly ParameterShape[],
  optional: readonly ParameterShape[] = [],
): Promise<Map<string, Float32Array<ArrayBuffer>>> {
  await using file = await openAdapterTensors(folder);
  const all = [...shapes, ...optional.filter(({ name }) => file.tensors.has(name))];
  const wanted = new Set(all.map(({ name }) => name));
  const surplus = [...file.tensors.keys()].find((name) => !wanted.has(name) && !isUnused(name));
  if (surplus !== undefined) throw surplusTensor(file.path, surplus);
  const values = new Map<string, Float32Array<ArrayBuffer>>();
  for (const { name, shape } of all) {
    const info = file.tensors.get(name);
    if (info !== undefined && info.shape.join() !== shape.join()) {
      if (name === savedModuleKey("score") && info.shape[0] === 1) throw oneLogit(`${file.path}: tensor "${name}"`);
      throw new ModelError(
        "ADAPTER_SHAPE",
        `${file.path}: tensor "${name}" is [${info.shape.join(",")}], the configured adapter needs [${shape.join(",")}]`,
        {
          hint: "Use the rank, target modules, number of labels and base model (--base-model) that the adapter was trained with.",
        },
      );
    }
    values.set(name, await readFloats(file, name, shape));
  }
  return values;
}
