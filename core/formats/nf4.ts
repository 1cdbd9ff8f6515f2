/**
 * NF4 on the CPU, bit for bit as bitsandbytes does it: four-bit normal floats in blocks of 64, the blocks' absmax
 * quantized once more to 8 bits ("double quantization"). This is the reference that the kernels are held to.
 * Sources: QLoRA (arXiv 2305.14314); bitsandbytes csrc/kernels.cu and bitsandbytes/functional.py.
 */
import { createDynamicMap, nearestCode } from "./dynamic-map.ts";
import { bf16ToF32, f32ToBf16, roundToF16 } from "./half.ts";

/** Consecutive elements of the flattened weight that share one absmax. */
export const NF4_BLOCK_SIZE = 64;
/** Consecutive absmax values that share one nested absmax. */
export const NESTED_BLOCK_SIZE = 256;

/** The 16 values that a nibble stands for, `[16]` f32. */
export const nf4CodeBook: Float32Array<ArrayBuffer> = Float32Array.of(
  -1.0,
  -0.6961928009986877,
  -0.5250730514526367,
  -0.39491748809814453,
  -0.28444138169288635,
  -0.18477343022823334,
  -0.09105003625154495,
  0.0,
  0.07958029955625534,
  0.16093020141124725,
  0.24611230194568634,
  0.33791524171829224,
  0.44070982933044434,
  0.5626170039176941,
  0.7229568362236023,
  1.0,
);

/** Midpoints between neighbors of the code book; only what is strictly above one takes the higher code. */
const thresholds = Float32Array.from({ length: 15 }, (_, i) =>
  Math.fround(Math.fround(nf4CodeBook[i]! + nf4CodeBook[i + 1]!) / 2),
);

/** What a quantized weight was before it was quantized; dequantizing rounds to it. */
export type Nf4DType = "float32" | "bfloat16" | "float16";

/** Absmax values quantized to 8 bits: `absmax[i] = nestedMap[codes[i]] * nestedAbsmax[i / 256] + nestedOffset`. */
export interface NestedAbsmax {
  /** `[blocks]` indices into `nestedMap`. */
  readonly absmax: Uint8Array<ArrayBuffer>;
  /** `[ceil(blocks / 256)]` f32. */
  readonly nestedAbsmax: Float32Array<ArrayBuffer>;
  /** `[256]` f32. */
  readonly nestedMap: Float32Array<ArrayBuffer>;
  /** Mean of the absmax values, taken off before quantizing; f32. */
  readonly nestedOffset: number;
}

/** Absmax as it is, `[blocks]` f32. */
export interface PlainAbsmax {
  readonly absmax: Float32Array<ArrayBuffer>;
  readonly nestedAbsmax?: undefined;
  readonly nestedMap?: undefined;
  readonly nestedOffset?: undefined;
}

/** A linear layer's weight `[out, in]` in NF4. */
export type PackedNf4 = {
  readonly shape: readonly [outFeatures: number, inFeatures: number];
  readonly dtype: Nf4DType;
  /** `[ceil(out * in / 2)]`: element 2k in the high nibble of byte k, element 2k + 1 in the low one. */
  readonly codes: Uint8Array<ArrayBuffer>;
  /** `[16]` f32, bit-equal to {@link nf4CodeBook}. */
  readonly codeBook: Float32Array<ArrayBuffer>;
} & (NestedAbsmax | PlainAbsmax);

/** Code 0..15 of a value already divided by its block's absmax. */
export function nf4Code(x: number): number {
  let code = 0;
  while (code < 15 && x > thresholds[code]!) code++;
  return code;
}

/**
 * Quantizes `[n]` f32 to packed codes `[ceil(n / 2)]` and absmax `[ceil(n / 64)]`. The block is scaled by the
 * reciprocal of its absmax, not divided by it; a block of zeros gets absmax 0 and code 7, which is 0.
 */
export function quantizeNf4(weight: Float32Array): {
  codes: Uint8Array<ArrayBuffer>;
  absmax: Float32Array<ArrayBuffer>;
} {
  const codes = new Uint8Array(Math.ceil(weight.length / 2));
  const absmax = new Float32Array(Math.ceil(weight.length / NF4_BLOCK_SIZE));
  for (let block = 0; block < absmax.length; block++) {
    const begin = block * NF4_BLOCK_SIZE;
    const end = Math.min(begin + NF4_BLOCK_SIZE, weight.length);
    const largest = largestMagnitude(weight, begin, end);
    absmax[block] = largest;
    const scale = largest === 0 ? 0 : Math.fround(1 / largest);
    for (let i = begin; i < end; i++) {
      const code = nf4Code(Math.fround(weight[i]! * scale));
      codes[i >> 1]! |= i % 2 === 0 ? code << 4 : code;
    }
  }
  return { codes, absmax };
}

/**
 * Quantizes `[blocks]` f32 absmax values to 8 bits around their mean.
 * @param offset the mean to use; by default the mean in f64 rounded to f32, which may differ in the last bit from the
 *   one torch sums in f32
 */
export function quantizeAbsmax(absmax: Float32Array, offset: number = mean(absmax)): NestedAbsmax {
  const nestedMap = createDynamicMap(true);
  const nestedOffset = Math.fround(offset);
  const centred = absmax.map((value) => value - nestedOffset);
  const nestedAbsmax = new Float32Array(Math.ceil(absmax.length / NESTED_BLOCK_SIZE));
  const codes = new Uint8Array(absmax.length);
  for (let block = 0; block < nestedAbsmax.length; block++) {
    const begin = block * NESTED_BLOCK_SIZE;
    const end = Math.min(begin + NESTED_BLOCK_SIZE, absmax.length);
    const largest = largestMagnitude(centred, begin, end);
    nestedAbsmax[block] = largest;
    const scale = largest === 0 ? 0 : Math.fround(1 / largest);
    for (let i = begin; i < end; i++) codes[i] = nearestCode(nestedMap, Math.fround(centred[i]! * scale));
  }
  return { absmax: codes, nestedAbsmax, nestedMap, nestedOffset };
}

/** The f32 absmax of every block, `[blocks]`, restored where it is double-quantized. */
export function restoreAbsmax(weight: NestedAbsmax | PlainAbsmax): Float32Array<ArrayBuffer> {
  if (weight.nestedAbsmax === undefined) return weight.absmax;
  const { absmax, nestedAbsmax, nestedMap, nestedOffset } = weight;
  const out = new Float32Array(absmax.length);
  for (let i = 0; i < out.length; i++) {
    const scaled = Math.fround(nestedMap[absmax[i]!]! * nestedAbsmax[Math.floor(i / NESTED_BLOCK_SIZE)]!);
    out[i] = scaled + nestedOffset;
  }
  return out;
}

/**
 * The weight `[out * in]` f32, row-major: code book value times absmax in f32, then rounded to `dtype` (by default the
 * one that the checkpoint was quantized from, as bitsandbytes does).
 */
export function dequantizeNf4(weight: PackedNf4, dtype: Nf4DType = weight.dtype): Float32Array<ArrayBuffer> {
  const absmax = restoreAbsmax(weight);
  const { codes, codeBook } = weight;
  const out = new Float32Array(weight.shape[0] * weight.shape[1]);
  for (let i = 0; i < out.length; i++) {
    const byte = codes[i >> 1]!;
    out[i] = codeBook[(i & 1) === 0 ? byte >> 4 : byte & 15]! * absmax[(i / NF4_BLOCK_SIZE) | 0]!;
  }
  if (dtype === "float16") return out.map(roundToF16);
  return dtype === "float32" ? out : bf16ToF32(f32ToBf16(out));
}

function largestMagnitude(values: Float32Array, begin: number, end: number): number {
  let largest = 0;
  for (let i = begin; i < end; i++) largest = Math.max(largest, Math.abs(values[i]!));
  return largest;
}

function mean(values: Float32Array): number {
  return values.length === 0 ? 0 : values.reduce((sum, value) => sum + value, 0) / values.length;
}
