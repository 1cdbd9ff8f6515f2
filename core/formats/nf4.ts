/**
 * bitsandbytes' 4-bit types on the CPU, bit for bit: NF4 (four-bit normal floats) and FP4, in blocks of 64 to 4096, the
 * blocks' absmax perhaps quantized once more to 8 bits ("double quantization"). This is the reference that the kernels are held to.
 * Sources: QLoRA (arXiv 2305.14314); bitsandbytes csrc/kernels.cu and bitsandbytes/functional.py.
 */
import { createDynamicMap, nearestCode } from "./dynamic-map.ts";
import { bf16ToF32, f32ToBf16, roundToF16 } from "./half.ts";
import { torchMean } from "./torch-mean.ts";

/** bitsandbytes' types of 4 bits. */
export const QUANT_TYPES = ["nf4", "fp4"] as const;
/** How a nibble stands for a number; bitsandbytes' `quant_type`. */
export type QuantType = (typeof QUANT_TYPES)[number];

/** Consecutive elements of the flattened weight that share one absmax, where nobody chose another size. */
export const DEFAULT_BLOCK_SIZE = 64;
/** Sizes of blocks that are read and written. */
export const BLOCK_SIZES = [64, 128, 256, 512, 1024, 2048, 4096] as const;
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

/** FP4's `[16]` f32: the magnitudes of three bits, then their negatives, of which the first is 0 too. */
export const fp4CodeBook: Float32Array<ArrayBuffer> = Float32Array.from({ length: 16 }, (_, code) => {
  const magnitude = [0, 0.0625, 8, 12, 4, 6, 2, 3][code % 8]! / 12;
  return code > 8 ? -magnitude : magnitude;
});

/** What the 16 codes of each type stand for. */
export const codeBooks: Readonly<Record<QuantType, Float32Array<ArrayBuffer>>> = {
  nf4: nf4CodeBook,
  fp4: fp4CodeBook,
};

/** How a scaled value becomes a code: `codes[i]` where it lies strictly above `i` of the ascending thresholds. */
export interface CodeRule {
  readonly thresholds: Float32Array<ArrayBuffer>;
  readonly codes: readonly number[];
  /** The magnitude is looked up, and a negative value has bit 3 set. */
  readonly signed: boolean;
}

/** Midpoints of neighbors for NF4; bitsandbytes' own constants for FP4. */
export const codeRules: Readonly<Record<QuantType, CodeRule>> = {
  nf4: {
    thresholds: Float32Array.from({ length: 15 }, (_, i) =>
      Math.fround(Math.fround(nf4CodeBook[i]! + nf4CodeBook[i + 1]!) / 2),
    ),
    codes: Array.from({ length: 16 }, (_, code) => code),
    signed: false,
  },
  fp4: {
    thresholds: Float32Array.of(0.00260417, 0.0859375, 0.20833333, 0.29166667, 0.4166667, 0.583333, 0.8333333),
    codes: [0, 1, 6, 7, 4, 5, 2, 3],
    signed: true,
  },
};

/** What a quantized weight was before it was quantized; dequantizing rounds to it. */
export type WeightDType = "float32" | "bfloat16" | "float16";

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

/** How a weight is, or is to be, quantized. */
export interface BlockQuantization {
  /** Default nf4. */
  readonly quantType?: QuantType | undefined;
  /** One of {@link BLOCK_SIZES}; default 64. */
  readonly blockSize?: number | undefined;
}

/** A linear layer's weight `[out, in]` in 4 bits. */
export type Packed4bit = BlockQuantization & {
  readonly shape: readonly [outFeatures: number, inFeatures: number];
  readonly dtype: WeightDType;
  /** `[ceil(out * in / 2)]`: element 2k in the high nibble of byte k, element 2k + 1 in the low one. */
  readonly codes: Uint8Array<ArrayBuffer>;
  /** `[16]` f32, bit-equal to that of the type in {@link codeBooks}. */
  readonly codeBook: Float32Array<ArrayBuffer>;
} & (NestedAbsmax | PlainAbsmax);

/** Code 0..15 of a value already divided by its block's absmax. */
export function codeOf(x: number, { thresholds, codes, signed }: CodeRule): number {
  const value = signed ? Math.abs(x) : x;
  let above = 0;
  while (above < thresholds.length && value > thresholds[above]!) above++;
  return codes[above]! + (signed && x < 0 ? 8 : 0);
}

/**
 * Quantizes `[n]` f32 to packed codes `[ceil(n / 2)]` and absmax `[ceil(n / blockSize)]`. The block is scaled by the
 * reciprocal of its absmax, not divided by it; a block of zeros gets absmax 0 and the code of 0.
 * @example const { codes, absmax } = quantize4bit(new Float32Array(128), { quantType: "fp4", blockSize: 128 });
 */
export function quantize4bit(
  weight: Float32Array,
  { quantType = "nf4", blockSize = DEFAULT_BLOCK_SIZE }: BlockQuantization = {},
): {
  codes: Uint8Array<ArrayBuffer>;
  absmax: Float32Array<ArrayBuffer>;
} {
  const rule = codeRules[quantType];
  const codes = new Uint8Array(Math.ceil(weight.length / 2));
  const absmax = new Float32Array(Math.ceil(weight.length / blockSize));
  for (let block = 0; block < absmax.length; block++) {
    const begin = block * blockSize;
    const end = Math.min(begin + blockSize, weight.length);
    const largest = largestMagnitude(weight, begin, end);
    absmax[block] = largest;
    const scale = largest === 0 ? 0 : Math.fround(1 / largest);
    for (let i = begin; i < end; i++) {
      const code = codeOf(Math.fround(weight[i]! * scale), rule);
      codes[i >> 1]! |= i % 2 === 0 ? code << 4 : code;
    }
  }
  return { codes, absmax };
}

/**
 * Quantizes `[blocks]` f32 absmax values to 8 bits around their mean.
 * @param offset the mean to use; by default the one that torch takes on a GPU
 */
export function quantizeAbsmax(absmax: Float32Array, offset: number = torchMean(absmax)): NestedAbsmax {
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
export function dequantize4bit(weight: Packed4bit, dtype: WeightDType = weight.dtype): Float32Array<ArrayBuffer> {
  const absmax = restoreAbsmax(weight);
  const { codes, codeBook, blockSize = DEFAULT_BLOCK_SIZE } = weight;
  const out = new Float32Array(weight.shape[0] * weight.shape[1]);
  for (let i = 0; i < out.length; i++) {
    const byte = codes[i >> 1]!;
    out[i] = codeBook[(i & 1) === 0 ? byte >> 4 : byte & 15]! * absmax[Math.floor(i / blockSize)]!;
  }
  if (dtype === "float16") return out.map(roundToF16);
  return dtype === "float32" ? out : bf16ToF32(f32ToBf16(out));
}

function largestMagnitude(values: Float32Array, begin: number, end: number): number {
  let largest = 0;
  for (let i = begin; i < end; i++) largest = Math.max(largest, Math.abs(values[i]!));
  return largest;
}
