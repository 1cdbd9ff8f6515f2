/** Frozen weights of every kind that a checkpoint may hold, random, with the values that they stand for. */
import type { FrozenWeight } from "../../core/compute/linear.ts";
import type { Gpu } from "../../core/device/gpu.ts";
import { bf16ToF32, f32ToBf16, f32ToF16 } from "../../core/formats/half.ts";
import { codeBooks, dequantize4bit, quantize4bit, quantizeAbsmax, type QuantType } from "../../core/formats/nf4.ts";
import { upload4bit, uploadDense } from "../../kernels/nf4/index.ts";
import { normals } from "./gpu.ts";

/** A kind of weight; `double`: its scales are quantized too. */
export type WeightKind =
  | { readonly quantType: QuantType; readonly blockSize: number; readonly double: boolean }
  | { readonly dtype: "bf16" | "f16" | "f32" };

/** One of each, block sizes at both ends and between. */
export const WEIGHT_KINDS: readonly WeightKind[] = [
  { quantType: "nf4", blockSize: 64, double: true },
  { quantType: "nf4", blockSize: 256, double: false },
  { quantType: "nf4", blockSize: 4096, double: true },
  { quantType: "fp4", blockSize: 64, double: false },
  { quantType: "fp4", blockSize: 128, double: true },
  { dtype: "bf16" },
  { dtype: "f16" },
  { dtype: "f32" },
];

export const nameOfKind = (kind: WeightKind): string =>
  "dtype" in kind ? kind.dtype : `${kind.quantType} in blocks of ${kind.blockSize}${kind.double ? ", double" : ""}`;

/** A weight [out,in] of this kind, and its values in f32. */
export function randomWeight(
  gpu: Gpu,
  kind: WeightKind,
  [outFeatures, inFeatures]: readonly [number, number],
  seed: number,
): { readonly weight: FrozenWeight; readonly values: Float32Array } {
  const drawn = normals(outFeatures * inFeatures, seed, 0.1);
  const spec = { name: "test", outFeatures, inFeatures };
  if ("dtype" in kind) {
    if (kind.dtype === "f32") return { weight: uploadDense(gpu, drawn, "f32", spec), values: drawn };
    const bits = kind.dtype === "bf16" ? f32ToBf16(drawn) : f32ToF16(drawn);
    const values = kind.dtype === "bf16" ? bf16ToF32(bits) : Float32Array.from(Float16Array.from(drawn));
    return { weight: uploadDense(gpu, bits, kind.dtype, spec), values };
  }
  const { quantType, blockSize, double } = kind;
  const { codes, absmax } = quantize4bit(drawn, kind);
  const scales = double ? quantizeAbsmax(absmax) : { absmax };
  const shape = [outFeatures, inFeatures] as const;
  const raw = {
    shape,
    dtype: "float32",
    quantType,
    blockSize,
    codes,
    codeBook: codeBooks[quantType],
    ...scales,
  } as const;
  return { weight: upload4bit(gpu, raw, "test"), values: dequantize4bit(raw) };
}
