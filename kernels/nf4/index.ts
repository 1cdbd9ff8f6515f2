/** NF4 weights on the GPU: upload, dequantize, quantize. */
import type { Nf4Weight } from "../../core/compute/linear.ts";
import type { Gpu } from "../../core/device/gpu.ts";
import { gridFor, wgslFloat } from "../../core/device/kernel.ts";
import { elementCount, expectTensor, type Tensor } from "../../core/device/tensor.ts";
import { NF4_BLOCK_SIZE, nf4CodeBook, type Nf4DType, type PackedNf4 } from "../../core/formats/nf4.ts";
import { nf4Constants, nf4Key, nf4Source, nf4Tensors, nf4Uniforms } from "./decode.ts";
import dequantizeCode from "./dequantize.wgsl" with { type: "text" };
import quantizeCode from "./quantize.wgsl" with { type: "text" };

export { nf4Constants, nf4Key, nf4Source, nf4Tensors, nf4Uniforms } from "./decode.ts";

/** What dequantized values are rounded to, by the dtype that the weight was quantized from. */
export const ROUNDING: Readonly<Record<Nf4DType, Nf4Weight["rounding"]>> = {
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
 * Uploads a weight as it lies in the checkpoint; nothing is unpacked.
 * @param name Hugging Face name of the linear, for messages
 */
export function uploadNf4(gpu: Gpu, raw: PackedNf4, name: string): Nf4Weight {
  const [outFeatures, inFeatures] = raw.shape;
  const put = (
    data: Uint32Array<ArrayBuffer> | Float32Array<ArrayBuffer>,
    dtype: "u32" | "f32",
    part: string,
  ): Tensor => gpu.upload(data, [data.length], dtype, `${name}.${part}`, "weights");
  const codes = put(words(raw.codes), "u32", "codes");
  const shared = { kind: "nf4", name, outFeatures, inFeatures, codes, rounding: ROUNDING[raw.dtype] } as const;
  if (raw.nestedAbsmax === undefined) {
    return {
      ...shared,
      absmax: put(Float32Array.from(raw.absmax), "f32", "absmax"),
      nested: undefined,
      nestedOffset: 0,
    };
  }
  const nested = Float32Array.of(...raw.nestedMap, ...raw.nestedAbsmax);
  return {
    ...shared,
    absmax: put(words(raw.absmax), "u32", "absmax"),
    nested: put(nested, "f32", "nested absmax"),
    nestedOffset: raw.nestedOffset,
  };
}

/** Gives a weight's memory back. */
export function freeNf4(gpu: Gpu, weight: Nf4Weight): void {
  const { codes, absmax, nested, transposed, bias } = weight;
  for (const tensor of [codes, absmax, nested, transposed, bias]) if (tensor !== undefined) gpu.free(tensor);
}

/**
 * `out [rows, in]` f32 or f16 = rows `firstRow` and on of the dequantized weight, bit-equal to bitsandbytes: code book
 * times absmax in f32, rounded to `weight.rounding`, then to `out`'s dtype.
 * @param firstRow of the weight; a multiple of 8
 */
export function dequantize(gpu: Gpu, weight: Nf4Weight, out: Tensor, firstRow = 0): void {
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
  const kernel = gpu.kernel(`nf4/dequantize/${type}/${nf4Key(weight)}/${whole ? "whole" : "tail"}`, () => ({
    code: nf4Source(0) + (whole ? storeVectors : storeScalars) + dequantizeCode,
    bindings: ["read", "read", "read", "write"],
    uniforms: { words: "u32", first_word: "u32", size: "u32", ...nf4Uniforms },
    constants: nf4Constants(weight),
    types: { T: type },
  }));
  const count = Math.ceil(size / 8);
  gpu.dispatch(
    kernel,
    [...nf4Tensors(weight), out],
    { words: count, first_word: (firstRow * weight.inFeatures) / 8, size, nested_offset: weight.nestedOffset, zero: 0 },
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

const thresholds = Array.from({ length: 15 }, (_, i) => Math.fround(nf4CodeBook[i]! + nf4CodeBook[i + 1]!) / 2);
const thresholdSource = `const THRESHOLDS = array<f32, 15>(${thresholds.map(wgslFloat).join(", ")});\n`;

/**
 * Quantizes `values` f32 (flattened, blocks of 64) as bitsandbytes does: the block times the reciprocal of its absmax,
 * a tie between two codes to the lower one. Blocks whose absmax is outside 2^-126 … 2^126 become zeros.
 * @param codes u32 [ceil(n/8)]
 * @param absmax f32 [ceil(n/64)]
 */
export function quantize(gpu: Gpu, values: Tensor, codes: Tensor, absmax: Tensor): void {
  const size = elementCount(values.shape);
  expectTensor(values, values.shape, "f32");
  expectTensor(codes, [Math.ceil(size / 8)], "u32");
  expectTensor(absmax, [Math.ceil(size / NF4_BLOCK_SIZE)], "f32");
  const kernel = gpu.kernel("nf4/quantize", () => ({
    code: thresholdSource + quantizeCode,
    bindings: ["read", "write", "write"],
    uniforms: { size: "u32" },
  }));
  gpu.dispatch(kernel, [values, codes, absmax], { size }, gridFor(size / NF4_BLOCK_SIZE / 64));
}
