/**
 * A bitsandbytes checkpoint as transformers' `save_pretrained` writes it, made from one in 16 or 32 bits on the GPU: no more than one
 * linear's codes are on the host. Files of safetensors hold their f32 tensors first, and a quant_state has the mean of its scales in it:
 * so every linear is quantized once for what is small, and again when the turn of its codes comes.
 */
import type { QuantizedWeight } from "../../core/compute/linear.ts";
import type { Gpu } from "../../core/device/gpu.ts";
import type { Tensor } from "../../core/device/tensor.ts";
import type { LoadQuantization } from "../../core/formats/base-weights.ts";
import type { Checkpoint } from "../../core/formats/checkpoint.ts";
import { createDynamicMap } from "../../core/formats/dynamic-map.ts";
import { statePart } from "../../core/formats/nf4-checkpoint.ts";
import { codeBooks, NESTED_BLOCK_SIZE } from "../../core/formats/nf4.ts";
import { formatPythonFloat } from "../../core/formats/python-json.ts";
import type { TensorToWrite } from "../../core/formats/safetensors.ts";
import { TensorStream } from "../../core/formats/tensor-stream.ts";
import { WeightQuantizer } from "../../kernels/nf4/load-quantized.ts";
import { freeWeight } from "../../kernels/nf4/index.ts";

const PIECE_BYTES = 4 * 2 ** 20;
const DTYPES = { bf16: "bfloat16", f16: "float16", f32: "float32" } as const;

/** What becomes of a checkpoint's tensors. */
export interface QuantizePlan {
  readonly checkpoint: Checkpoint;
  /** By the tensor's name in the checkpoint; what is not here is copied. */
  readonly quantized: ReadonlyMap<string, LoadQuantization>;
  readonly onWeight?: ((done: number, total: number) => void) | undefined;
}

/** What is small of a quantized weight. */
interface Small {
  readonly state: Uint8Array<ArrayBuffer>;
  readonly nestedAbsmax: Float32Array<ArrayBuffer> | undefined;
}

/** The tensors of the quantized checkpoint, whose bytes are made as they are asked for. */
export class QuantizedTensors {
  readonly #gpu: Gpu;
  readonly #plan: QuantizePlan;
  readonly #stream: TensorStream;
  readonly #quantizer: WeightQuantizer;
  /** The weight that was quantized last: its codes and its scales follow each other. */
  #last: { readonly name: string; readonly weight: QuantizedWeight } | undefined;
  #made = 0;

  constructor(gpu: Gpu, plan: QuantizePlan) {
    this.#gpu = gpu;
    this.#plan = plan;
    this.#stream = new TensorStream(gpu, plan.checkpoint);
    this.#quantizer = new WeightQuantizer(gpu, this.#stream, plan.quantized.size);
  }

  /** Every tensor to write, by name. @throws ModelError naming the tensor that is missing or misshapen */
  async list(): Promise<(readonly [string, TensorToWrite])[]> {
    const { checkpoint, quantized } = this.#plan;
    const tensors: (readonly [string, TensorToWrite])[] = [];
    for (const [name, { dtype, shape }] of checkpoint.tensors) {
      const to = quantized.get(name);
      if (to !== undefined) tensors.push(...(await this.#partsOf(name, shape as readonly [number, number], to)));
      else tensors.push([name, { dtype, shape, data: async () => checkpoint.stream(name, PIECE_BYTES) }]);
    }
    return tensors;
  }

  /** @throws ModelError TENSOR_NOT_FINITE where a weight held a value that is NaN or infinite */
  async finish(): Promise<void> {
    await this.#quantizer.finish();
    await this.#stream.finish();
  }

  async #partsOf(
    name: string,
    shape: readonly [number, number],
    to: LoadQuantization,
  ): Promise<(readonly [string, TensorToWrite])[]> {
    const elements = shape[0] * shape[1];
    const blocks = Math.ceil(elements / to.blockSize);
    const { state, nestedAbsmax } = await this.#small(name, shape, to);
    const bytes = (part: "codes" | "absmax", length: number) => async (): Promise<Uint8Array> =>
      (await this.#gpu.readBytes((await this.#weight(name, to))[part])).subarray(0, length);
    const parts: (readonly [string, TensorToWrite])[] = [
      [name, { dtype: "U8", shape: [Math.ceil(elements / 2), 1], data: bytes("codes", Math.ceil(elements / 2)) }],
      [`${name}.quant_map`, { dtype: "F32", shape: [16], data: codeBooks[to.quantType] }],
      [`${name}.${statePart(to.quantType)}`, { dtype: "U8", shape: [state.length], data: state }],
    ];
    if (nestedAbsmax === undefined) {
      return [...parts, [`${name}.absmax`, { dtype: "F32", shape: [blocks], data: bytes("absmax", 4 * blocks) }]];
    }
    return [
      ...parts,
      [`${name}.absmax`, { dtype: "U8", shape: [blocks], data: bytes("absmax", blocks) }],
      [`${name}.nested_absmax`, { dtype: "F32", shape: [nestedAbsmax.length], data: nestedAbsmax }],
      [`${name}.nested_quant_map`, { dtype: "F32", shape: [NESTED_BLOCK_SIZE], data: createDynamicMap(true) }],
    ];
  }

  /** The quant_state and the nested absmax, read back. */
  async #small(name: string, shape: readonly [number, number], to: LoadQuantization): Promise<Small> {
    const source = this.#plan.checkpoint.tensors.get(name)!.dtype.toLowerCase() as keyof typeof DTYPES;
    const head = `{"quant_type": "${to.quantType}", "blocksize": ${to.blockSize}, "dtype": "${DTYPES[source]}", "shape": [${shape.join(", ")}]`;
    const encode = (text: string): Uint8Array<ArrayBuffer> => new TextEncoder().encode(text);
    if (!to.doubleQuant) return { state: encode(`${head}}`), nestedAbsmax: undefined };
    const weight = await this.#weight(name, to);
    const nested = await this.#gpu.readFloats(weight.nested as Tensor);
    const offset = formatPythonFloat(nested[NESTED_BLOCK_SIZE]!);
    const state = `${head}, "nested_blocksize": ${NESTED_BLOCK_SIZE}, "nested_dtype": "float32", "nested_offset": ${offset}}`;
    this.#plan.onWeight?.(++this.#made, 2 * this.#plan.quantized.size);
    return { state: encode(state), nestedAbsmax: nested.slice(NESTED_BLOCK_SIZE + 1) };
  }

  async #weight(name: string, to: LoadQuantization): Promise<QuantizedWeight> {
    if (this.#last?.name === name) return this.#last.weight;
    if (this.#last !== undefined) freeWeight(this.#gpu, this.#last.weight);
    this.#last = undefined;
    const [outFeatures, inFeatures] = this.#plan.checkpoint.tensors.get(name)!.shape as [number, number];
    const linear = { name: name.slice(0, -".weight".length), outFeatures, inFeatures };
    const weight = await this.#quantizer.load(linear, to);
    this.#last = { name, weight };
    return weight;
  }
}
