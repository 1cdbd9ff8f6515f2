/**
 * The merged checkpoint: every tensor of the base in turn, its 4-bit weights dequantized to bf16, those of linears
 * changed by the adapter; then the score head. No more than one tensor is in memory.
 */
import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import type { LinearSpec } from "../../core/compute/linear.ts";
import { ModelError } from "../../core/errors.ts";
import type { LoadQuantization } from "../../core/formats/base-weights.ts";
import { type Checkpoint, expectFloats, openCheckpoint, readFloats } from "../../core/formats/checkpoint.ts";
import { finiteTensors } from "../../core/formats/finite.ts";
import { f32ToBf16, f32ToF16 } from "../../core/formats/half.ts";
import { isQuantized, read4bit, readQuantState } from "../../core/formats/nf4-checkpoint.ts";
import { codeBooks, dequantize4bit, quantize4bit, quantizeAbsmax } from "../../core/formats/nf4.ts";
import { formatPythonJson, type PythonJson } from "../../core/formats/python-json.ts";
import { type TensorToWrite } from "../../core/formats/safetensors.ts";
import type { Adapter } from "../../core/plugin/adapter.ts";
import type { Task } from "../../core/plugin/task.ts";
import type { ModelSpec } from "../../core/plugin/model.ts";
import { writeFileAtomic } from "../../runtime/files/files.ts";
import { openFolder, writeSafetensors } from "../../runtime/files/folder.ts";
import { TOKENIZER_FILES } from "../../runtime/hub/files.ts";
import { headTensor } from "../../runtime/session/base-headers.ts";
import { mergedConfig } from "./config.ts";
import type { Padding } from "./padding.ts";
import { planShards } from "./shards.ts";
import { TOKENIZER_CONFIG, withSettings } from "./tokenizer-settings.ts";

/** What `save_pretrained` splits at. */
const MAX_SHARD_BYTES = 5e9;
const PIECE_BYTES = 4 * 2 ** 20;

/** What is merged, and how it is written. */
export interface MergePlan {
  /** Folder of the base model. */
  readonly base: string;
  readonly outline: ModelSpec;
  readonly adapter: Adapter;
  /** By parameter name, head included. */
  readonly values: ReadonlyMap<string, Float32Array<ArrayBuffer>>;
  readonly numLabels: number;
  readonly task: Task;
  /** What is padded with, where it is known. */
  readonly padding?: Padding | undefined;
  /** Names of the classes, where the run has its own. */
  readonly labelNames?: readonly string[] | undefined;
  /** Settings of tokenizer_config.json that the base lacks or has otherwise. */
  readonly tokenizerChanges?: Readonly<Record<string, string | boolean>> | undefined;
  /** What the model's options change of config.json. */
  readonly configChanges: Readonly<Record<string, PythonJson>>;
  readonly maxShardSize?: number | undefined;
  /** Merge NaN and infinite values as they are. */
  readonly allowNonFinite?: boolean | undefined;
  readonly onTensor?: ((done: number, total: number) => void) | undefined;
}

/** What was written. */
export interface MergedFiles {
  readonly tensors: number;
  readonly shards: number;
  readonly bytes: number;
}

/**
 * Writes config.json, the weights and the tokenizer's files into a folder that exists.
 * @throws ModelError naming the tensor that is missing or damaged
 */
export async function writeMergedCheckpoint(folder: string, plan: MergePlan): Promise<MergedFiles> {
  await using checkpoint = finiteTensors(await openCheckpoint(openFolder(plan.base)), plan.allowNonFinite === true);
  const { padding } = plan;
  const changes = padding === undefined ? plan.configChanges : { ...plan.configChanges, pad_token_id: padding.id };
  const config = await mergedConfig(plan.base, changes, plan);
  const tensors = await mergedTensors(checkpoint, plan);
  const { files, bytes } = planShards(tensors, plan.maxShardSize ?? MAX_SHARD_BYTES);
  let done = 0;
  const told = (tensor: TensorToWrite): TensorToWrite => {
    const { data } = tensor;
    if (typeof data !== "function") return tensor;
    return {
      ...tensor,
      data: async () => {
        const made = await data();
        plan.onTensor?.(++done, tensors.length);
        return made;
      },
    };
  };
  for (const { name, tensors: own } of files) {
    const list = own.map(([key, tensor]) => [key, told(tensor)] as const);
    await writeSafetensors(join(folder, name), list, { format: "pt" });
  }
  if (files.length > 1) {
    const places = Object.fromEntries(files.flatMap(({ name, tensors: own }) => own.map(([key]) => [key, name])));
    const index = formatPythonJson({ metadata: { total_size: bytes }, weight_map: places });
    await writeFileAtomic(join(folder, "model.safetensors.index.json"), `${index}\n`);
  }
  await writeFileAtomic(join(folder, "config.json"), config);
  for (const name of TOKENIZER_FILES) {
    // Written, not copied: a cache's files may be read-only, and a folder of ours is not.
    if (!existsSync(join(plan.base, name))) continue;
    const content = await readFile(join(plan.base, name));
    const own = name === TOKENIZER_CONFIG ? withSettings(content.toString(), plan.tokenizerChanges ?? {}) : content;
    await writeFileAtomic(join(folder, name), own);
  }
  return { tensors: tensors.length, shards: files.length, bytes };
}

/** What is left of values that are quantized as they are loaded. */
function quantizedAndBack(
  values: Float32Array<ArrayBuffer>,
  shape: readonly [number, number],
  to: LoadQuantization,
): Float32Array<ArrayBuffer> {
  const { codes, absmax } = quantize4bit(values, to);
  const scales = to.doubleQuant ? quantizeAbsmax(absmax) : { absmax };
  return dequantize4bit({ ...to, shape, dtype: "float32", codes, codeBook: codeBooks[to.quantType], ...scales });
}

/** Values as a checkpoint stores them. */
const stored = (values: Float32Array, dtype: "F32" | "BF16" | "F16"): ArrayBufferView =>
  dtype === "F32" ? values : dtype === "BF16" ? f32ToBf16(values) : f32ToF16(values);

/** Every tensor of the merged model by name, in the order of its layers. */
async function mergedTensors(checkpoint: Checkpoint, plan: MergePlan): Promise<(readonly [string, TensorToWrite])[]> {
  const { outline, adapter, values } = plan;
  const heads = new Map(outline.head.map((head) => [headTensor(head.name), head]));
  const linears = new Map(outline.linears.map((spec) => [spec.name, spec]));
  const linearOf = (tensor: string): LinearSpec | undefined => linears.get(tensor.slice(0, tensor.lastIndexOf(".")));
  const names = [...checkpoint.tensors.keys()];
  const quantized = new Set(names.filter((name) => isQuantized(checkpoint, name)));
  const isPart = (name: string): boolean =>
    [...name.matchAll(/\./g)].some(({ index }) => quantized.has(name.slice(0, index)));
  const missing = outline.linears.find(({ name }) => !checkpoint.tensors.has(`${name}.weight`));
  if (missing !== undefined) {
    throw new ModelError("TENSOR_MISSING", `${checkpoint.dir}: there is no tensor "${missing.name}.weight"`, {
      hint: "The checkpoint is of another architecture, or not whole.",
    });
  }

  const loaded = new Map(outline.baseParameters.map(({ name, quantized: to }) => [name, to]));
  const tensors: (readonly [string, TensorToWrite])[] = [];
  for (const name of names) {
    // A classifier has no use for the language model's head; a score head of the base is replaced.
    if (isPart(name) || name.startsWith("lm_head.") || heads.has(name)) continue;
    const linear = linearOf(name);
    if (quantized.has(name)) {
      const { shape } = await readQuantState(checkpoint, name);
      const data = async (): Promise<Uint16Array> => {
        const weight = dequantize4bit(await read4bit(checkpoint, name));
        if (linear !== undefined) adapter.mergeWeight!(linear, weight, values);
        return f32ToBf16(weight);
      };
      tensors.push([name, { dtype: "BF16", shape, data }]);
    } else if (linear !== undefined && name.endsWith(".weight")) {
      const { outFeatures, inFeatures } = linear;
      const shape = [outFeatures, inFeatures] as const;
      const { dtype } = expectFloats(checkpoint, name, shape);
      const to = loaded.get(name);
      const data = async (): Promise<ArrayBufferView> => {
        const floats = await readFloats(checkpoint, name);
        // What the adapter was trained on, where that was quantized as it was loaded.
        const weight = to === undefined ? floats : quantizedAndBack(floats, shape, to);
        adapter.mergeWeight!(linear, weight, values);
        return stored(weight, dtype);
      };
      tensors.push([name, { dtype, shape, data }]);
    } else if (linear !== undefined && name.endsWith(".bias") && adapter.mergeBias !== undefined) {
      const { dtype, shape } = expectFloats(checkpoint, name);
      const data = async (): Promise<ArrayBufferView> => {
        const bias = await readFloats(checkpoint, name);
        adapter.mergeBias!(linear, bias, values);
        return stored(bias, dtype);
      };
      tensors.push([name, { dtype, shape, data }]);
    } else {
      const { dtype, shape } = checkpoint.tensors.get(name)!;
      tensors.push([name, { dtype, shape, data: async () => checkpoint.stream(name, PIECE_BYTES) }]);
    }
  }
  for (const [name, { name: parameter, shape }] of heads) {
    const value = values.get(parameter);
    if (value === undefined) throw new ModelError("ADAPTER_HEAD_MISSING", `the adapter holds no tensor "${parameter}"`);
    tensors.push([name, { dtype: "BF16", shape, data: async () => f32ToBf16(value) }]);
  }
  return tensors;
}
