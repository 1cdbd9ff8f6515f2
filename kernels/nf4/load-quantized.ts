import type { QuantizedWeight } from "../../core/compute/linear.ts";
import type { Gpu } from "../../core/device/gpu.ts";
import { PIECE_BYTES } from "../../core/device/staging.ts";
import { bytesPerElement, type Tensor } from "../../core/device/tensor.ts";
import type { LoadQuantization } from "../../core/formats/base-weights.ts";
import { expectFloats } from "../../core/formats/checkpoint.ts";
import { createDynamicMap } from "../../core/formats/dynamic-map.ts";
import { NESTED_BLOCK_SIZE } from "../../core/formats/nf4.ts";
import type { TensorStream } from "../../core/formats/tensor-stream.ts";
import type { WeightSpec } from "./load.ts";
import { quantize, quantizeScales } from "./quantize.ts";

const DTYPE = { F32: "f32", F16: "f16", BF16: "bf16" } as const;

/**
 * Quantizes weights in 16 or 32 bits on the GPU as they are streamed to it, a piece at a time: neither side ever holds a whole one.
 * NaN and infinite values are found by the kernel, and told by `finish`.
 */
export class WeightQuantizer {
  readonly #gpu: Gpu;
  readonly #stream: TensorStream;
  readonly #names: string[] = [];
  readonly #flags: Tensor | undefined;

  /** @param weights most weights that will be loaded */
  constructor(gpu: Gpu, stream: TensorStream, weights: number) {
    this.#gpu = gpu;
    this.#stream = stream;
    const tells = stream.source.allowsNonFinite !== true && weights > 0;
    this.#flags = tells
      ? gpu.upload(new Uint32Array(weights), [weights], "u32", "non-finite weights", "scratch")
      : undefined;
  }

  /**
   * Streams the weight `<name>.weight`, quantized as bitsandbytes does it.
   * @throws ModelError TENSOR_MISSING, or CHECKPOINT_INVALID where it is no matrix of floats of this shape
   */
  async load({ name, outFeatures, inFeatures }: WeightSpec, to: LoadQuantization): Promise<QuantizedWeight> {
    const gpu = this.#gpu;
    const key = `${name}.weight`;
    const { dtype } = expectFloats(this.#stream.source, key, [outFeatures, inFeatures]);
    const { quantType, blockSize, doubleQuant } = to;
    const elements = outFeatures * inFeatures;
    const blocks = Math.ceil(elements / blockSize);
    const width = bytesPerElement(DTYPE[dtype]);
    const codes = gpu.alloc([Math.ceil(elements / 8)], "u32", `${name}.codes`, "weights");
    const scales = gpu.alloc([blocks], "f32", `${name}.absmax`, doubleQuant ? "scratch" : "weights");
    const most = Math.min(PIECE_BYTES / width, elements);
    const piece = gpu.alloc([most], DTYPE[dtype], `piece of ${name}`, "scratch");
    const known = this.#names.indexOf(key);
    const index = known < 0 ? this.#names.push(key) - 1 : known;
    const flag = this.#flags === undefined ? undefined : { tensor: this.#flags, index };
    for (let first = 0; first < elements; first += most) {
      const size = Math.min(most, elements - first);
      await this.#stream.copyUnchecked(key, piece, first * width, size * width);
      quantize(gpu, piece, codes, scales, { quantType, blockSize, first, size, flag });
    }
    gpu.free(piece);
    const rounding = DTYPE[dtype];
    const shared = { kind: quantType, name, outFeatures, inFeatures, blockSize, codes, rounding } as const;
    if (!doubleQuant) return { ...shared, absmax: scales, nested: undefined };
    const absmax = gpu.alloc([Math.ceil(blocks / 4)], "u32", `${name}.absmax`, "weights");
    const values = new Float32Array(NESTED_BLOCK_SIZE + 1 + Math.ceil(blocks / NESTED_BLOCK_SIZE));
    values.set(createDynamicMap(true));
    const nested = gpu.upload(values, [values.length], "f32", `${name}.nested absmax`, "weights");
    quantizeScales(gpu, scales, absmax, nested);
    gpu.free(scales);
    return { ...shared, absmax, nested };
  }

  /** @throws ModelError TENSOR_NOT_FINITE naming the first weight that holds a value that is NaN or infinite */
  async finish(): Promise<void> {
    const flags = this.#flags;
    if (flags === undefined) return;
    const told = this.#gpu.isMeta ? new Uint8Array() : await this.#gpu.readBytes(flags);
    this.#gpu.free(flags);
    const found = new Uint32Array(told.buffer, told.byteOffset, told.byteLength / 4).indexOf(1);
    // Reading it once more with its values checked says which element it is.
    if (found >= 0) for await (const piece of this.#stream.source.stream(this.#names[found]!, PIECE_BYTES)) void piece;
  }
}
