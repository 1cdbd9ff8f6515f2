/** Frozen weights on the GPU, in 4 bits or dense: upload, dequantize. */
import type { DenseWeight, FrozenWeight, QuantizedWeight } from "../../core/compute/linear.ts";
import type { Gpu } from "../../core/device/gpu.ts";
import { gridFor } from "../../core/device/kernel.ts";
import { expectTensor, type Tensor } from "../../core/device/tensor.ts";
import { DEFAULT_BLOCK_SIZE, type WeightDType, type Packed4bit } from "../../core/formats/nf4.ts";
import { weightConstants, weightKey, weightSource, weightTensors, weightUniforms } from "./decode.ts";
import dequantizeCode from "./dequantize.wgsl" with { type: "text" };

export { weightConstants, weightKey, weightSource, weightTensors, weightUniforms } from "./decode.ts";
export { quantize, quantizeScales } from "./quantize.ts";

/** What dequantized values are rounded to, by the dtype that the weight was quantized from. */
export const ROUNDING: Readonly<Record<WeightDType, QuantizedWeight["rounding"]>> = {
  float32: "f32",
  bfloat16: "bf16",
  float16: "f16",
};

/** Bytes as little-endian u32 words, the last one padded with zeros. */
function words(bytes: Uint8Array): Uint32Array<ArrayBuffer> {
  const out = new Uint8Array(Math.ceil(bytes.length / 4) * 4);
  out.set(bytes);
  return new Uint32Array(out.buffer);
}

/**
 * Uploads a 4-bit weight as it lies in the checkpoint; nothing is unpacked.
 * @param name Hugging Face name of the linear, for messages
 */
export function upload4bit(gpu: Gpu, raw: Packed4bit, name: string): QuantizedWeight {
  const { quantType: kind = "nf4", blockSize = DEFAULT_BLOCK_SIZE } = raw;
  const [outFeatures, inFeatures] = raw.shape;
  const put = (
    data: Uint32Array<ArrayBuffer> | Float32Array<ArrayBuffer>,
    dtype: "u32" | "f32",
    part: string,
  ): Tensor => gpu.upload(data, [data.length], dtype, `${name}.${part}`, "weights");
  const codes = put(words(raw.codes), "u32", "codes");
  const shared = { kind, name, outFeatures, inFeatures, blockSize, codes, rounding: ROUNDING[raw.dtype] } as const;
  if (raw.nestedAbsmax === undefined) {
    return { ...shared, absmax: put(Float32Array.from(raw.absmax), "f32", "absmax"), nested: undefined };
  }
  const nested = Float32Array.of(...raw.nestedMap, raw.nestedOffset, ...raw.nestedAbsmax);
  return { ...shared, absmax: put(words(raw.absmax), "u32", "absmax"), nested: put(nested, "f32", "nested absmax") };
}

/** Uploads a dense weight `[out, in]`, which keeps its type. */
export function uploadDense(
  gpu: Gpu,
  values: Float32Array<ArrayBuffer> | Uint16Array<ArrayBuffer>,
  dtype: "f32" | "f16" | "bf16",
  { name, outFeatures, inFeatures }: Pick<DenseWeight, "name" | "outFeatures" | "inFeatures">,
): DenseWeight {
  const shape = [outFeatures, inFeatures];
  return { kind: "dense", name, outFeatures, inFeatures, values: gpu.upload(values, shape, dtype, name, "weights") };
}

/** Gives a weight's memory back. */
export function freeWeight(gpu: Gpu, weight: FrozenWeight): void {
  const { transposed, bias } = weight;
  const own = weight.kind === "dense" ? [weight.values] : [weight.codes, weight.absmax, weight.nested];
  for (const tensor of [...own, transposed, bias]) if (tensor !== undefined) gpu.free(tensor);
}

/**
 * `out [rows, in]` f32 or f16 = rows `firstRow` and on of the weight. A 4-bit one is bit-equal to
 * bitsandbytes: code book times absmax in f32, rounded to `weight.rounding`, then to `out`'s dtype.
 * @param firstRow of the weight; a multiple of 8
 */
export function dequantize(gpu: Gpu, weight: FrozenWeight, out: Tensor, firstRow = 0): void {
  expectTensor(out, [-1, weight.inFeatures], "f32", "f16");
  const rows = out.shape[0]!;
  if (firstRow % 8 !== 0 || firstRow + rows > weight.outFeatures) {
    throw new RangeError(
      `${weight.name}: cannot dequantize rows ${firstRow} to ${firstRow + rows} of ${weight.outFeatures}`,
    );
  }
  const type = out.dtype as "f32" | "f16";
  const size = rows * weight.inFeatures;
  const whole = size % 8 === 0;
  const kernel = gpu.kernel(`dequantize/${type}/${weightKey(weight)}/${whole ? "whole" : "tail"}`, () => ({
    code: weightSource(0, weight) + (whole ? storeVectors : storeScalars) + dequantizeCode,
    bindings: ["read", "read", "read", "write"],
    uniforms: { words: "u32", first_word: "u32", size: "u32", ...weightUniforms },
    constants: weightConstants(weight),
    types: { T: type },
  }));
  const count = Math.ceil(size / 8);
  gpu.dispatch(
    kernel,
    [...weightTensors(weight), out],
    { words: count, first_word: (firstRow * weight.inFeatures) / 8, size, zero: 0 },
    gridFor(count / 256),
  );
}

const storeVectors = /* wgsl */ `
@group(0) @binding(3) var<storage, read_write> output: array<T4>;
fn store(quad: u32, v: vec4f) {
  output[quad] = T4(v);
}
`;

const storeScalars = /* wgsl */ `
@group(0) @binding(3) var<storage, read_write> output: array<T>;
fn store(quad: u32, v: vec4f) {
  for (var j = 0u; j < 4u; j++) {
    if (quad * 4u + j < params.size) {
      output[quad * 4u + j] = T(v[j]);
    }
  }
}
`;
