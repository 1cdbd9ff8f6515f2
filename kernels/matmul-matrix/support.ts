import type { Gpu } from "../../core/device/gpu.ts";
import { DeviceError } from "../../core/errors.ts";
import { hasNarrow, type OperandLayout } from "./image.ts";
import { chooseTiling, matrixUnit, type MatrixUnit, type Tiling } from "./tiling.ts";

/** Sides of a linear's weight. */
export interface GemmShape {
  readonly inFeatures: number;
  readonly outFeatures: number;
}

/**
 * Why the kernels of this folder cannot serve a linear, or undefined where they can. The rule: the device's tier is
 * `matrix`, its subgroup matrices multiply f16 into f32 in sides of 8 or 16, and both sides of the weight are multiples
 * of 64. Tokens may be any number, ranks are padded. Everything else belongs to the kernels of tier f16, and the caller
 * chooses them; nothing here falls back by itself.
 */
export function gemmRefusal(gpu: Gpu, shape: GemmShape): string | undefined {
  if (gpu.tier !== "matrix") return `tier ${gpu.tier} has no subgroup matrices`;
  const unit = matrixUnit(gpu.info.capabilities);
  if (unit === undefined) return "the adapter reports no f16 to f32 matrix shape with sides of 8 or 16";
  const { inFeatures, outFeatures } = shape;
  if (inFeatures % 64 !== 0 || outFeatures % 64 !== 0)
    return `a [${outFeatures},${inFeatures}] weight has a side that is no multiple of 64`;
  for (const columns of [inFeatures, outFeatures]) {
    if (chooseTiling(unit, gpu.device.limits, 1, columns, [64]) === undefined)
      return `no tiling of ${columns} columns fits the adapter's workgroups`;
  }
  return undefined;
}

/** Whether the kernels of this folder serve a linear of this shape on this device. */
export function gemmSupports(gpu: Gpu, shape: GemmShape): boolean {
  return gemmRefusal(gpu, shape) === undefined;
}

/** @throws DeviceError where the device has no usable matrix unit */
export function unitOf(gpu: Gpu): MatrixUnit {
  const unit = matrixUnit(gpu.info.capabilities);
  if (unit === undefined) {
    throw new DeviceError("MATRIX_UNIT_MISSING", "this device has no f16 subgroup matrices with sides of 8 or 16", {
      hint: "Ask gemmSupports first and use the f16 kernels where it says no.",
    });
  }
  return unit;
}

/** @throws DeviceError where no tile shape fits */
export function tilingOf(
  gpu: Gpu,
  rows: number,
  columns: number,
  depths: readonly number[],
  layout: OperandLayout,
): Tiling {
  const operands = { layout, narrow: hasNarrow(gpu) };
  const tiling = chooseTiling(unitOf(gpu), gpu.device.limits, rows, columns, depths, operands);
  if (tiling === undefined) {
    throw new DeviceError(
      "MATRIX_SHAPE_UNSUPPORTED",
      `no tiling serves a product with ${columns} columns on this device`,
      {
        hint: "Ask gemmSupports first and use the f16 kernels where it says no.",
      },
    );
  }
  return tiling;
}

/** Unit as part of a kernel's key. */
export function unitKey({ m, n, k, lanes }: MatrixUnit): string {
  return `${m}x${n}x${k}@${lanes}`;
}
