/**
 * A meta checkpoint: every name, dtype and shape that bitsandbytes would write of a model, and zeros for values. The
 * planner loads it where the weights are not on this machine yet.
 */
import type { Gpu } from "../device/gpu.ts";
import { elementCount } from "../device/tensor.ts";
import type { LoadQuantization } from "./base-weights.ts";
import type { Folder } from "./bytes.ts";
import { hasWeights, openCheckpoint } from "./checkpoint.ts";
import { finiteTensors } from "./finite.ts";
import { statePart } from "./nf4-checkpoint.ts";
import { codeBooks, DEFAULT_BLOCK_SIZE, NESTED_BLOCK_SIZE, QUANT_TYPES } from "./nf4.ts";
import { tensorBytes, type TensorInfo, type TensorSpec } from "./safetensors-header.ts";
import { missingTensor, type TensorSource } from "./safetensors.ts";

/**
 * Opens the weights in a checkpoint's folder. On a meta device they need not be there: `rows`, the outline's `baseParameters`, then say
 * what they would be.
 * @param context what `load` gets; `allowNonFinite`: read NaN and infinite values as they are; otherwise the read of such a tensor throws
 * @throws ModelError as `openCheckpoint`
 */
export async function openWeights(
  { gpu, allowNonFinite }: { readonly gpu: Gpu; readonly allowNonFinite?: boolean | undefined },
  folder: Folder,
  rows: readonly BaseTensorSpec[],
): Promise<TensorSource> {
  if (gpu.isMeta && !(await hasWeights(folder))) return metaWeights(rows);
  return finiteTensors(await openCheckpoint(folder), allowNonFinite === true);
}

function metaWeights(rows: readonly BaseTensorSpec[]): TensorSource {
  const tensors = new Map<string, TensorInfo>();
  const values = new Map<string, Uint8Array<ArrayBuffer>>();
  let at = 0;
  const add = (name: string, spec: TensorSpec, value?: Uint8Array<ArrayBuffer>): void => {
    tensors.set(name, { ...spec, begin: at, end: at + tensorBytes(spec) });
    at += tensorBytes(spec);
    if (value !== undefined) values.set(name, value);
  };
  for (const { name, shape, dtype } of rows) {
    const quantType = QUANT_TYPES.find((type) => type.toUpperCase() === dtype);
    if (quantType === undefined) {
      add(name, { dtype: dtype as TensorSpec["dtype"], shape });
      continue;
    }
    // Where config.json is all there is, blocks are of 64 and their scales double-quantized, which is what is published.
    const elements = elementCount(shape);
    const blocks = Math.ceil(elements / DEFAULT_BLOCK_SIZE);
    const state = new TextEncoder().encode(
      JSON.stringify({
        quant_type: quantType,
        blocksize: DEFAULT_BLOCK_SIZE,
        dtype: "bfloat16",
        shape,
        nested_blocksize: NESTED_BLOCK_SIZE,
        nested_dtype: "float32",
        nested_offset: 0,
      }),
    );
    add(name, { dtype: "U8", shape: [Math.ceil(elements / 2), 1] });
    add(`${name}.absmax`, { dtype: "U8", shape: [blocks] });
    add(`${name}.nested_absmax`, { dtype: "F32", shape: [Math.ceil(blocks / NESTED_BLOCK_SIZE)] });
    add(`${name}.nested_quant_map`, { dtype: "F32", shape: [256] });
    add(`${name}.quant_map`, { dtype: "F32", shape: [16] }, new Uint8Array(codeBooks[quantType].slice().buffer));
    add(`${name}.${statePart(quantType)}`, { dtype: "U8", shape: [state.length] }, state);
  }
  const read = (name: string, begin = 0, end = Infinity): Uint8Array<ArrayBuffer> => {
    const info = tensors.get(name);
    if (info === undefined) throw missingTensor("meta checkpoint", name);
    const size = Math.min(end, info.end - info.begin) - begin;
    return values.get(name)?.slice(begin, begin + size) ?? new Uint8Array(size);
  };
  const close = async (): Promise<void> => {};
  return {
    tensors,
    pathOf: () => "meta checkpoint",
    read: async (name) => read(name),
    readInto: async (name, target, offset = 0) => target.set(read(name, offset, offset + target.length)),
    async *stream(name, chunkBytes) {
      const { begin, end } = tensors.get(name)!;
      for (let from = 0; from < end - begin; from += chunkBytes) yield read(name, from, from + chunkBytes);
    },
    close,
    [Symbol.asyncDispose]: close,
  };
}

/** One row of `inspect`'s table. */
export interface BaseTensorSpec {
  readonly name: string;
  readonly shape: readonly number[];
  /** As the checkpoint stores it: `NF4`, `FP4`, `BF16` … */
  readonly dtype: string;
  /** What a weight that is stored as floats is quantized to as it is loaded; undefined: it stays as it is. */
  readonly quantized?: LoadQuantization | undefined;
}
