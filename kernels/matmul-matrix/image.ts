/**
 * How a right operand lies in memory so that copies of a tile read it in one piece: B [K,columns] as tiles
 * [columns / 256][K / 32], a tile as 1024 vectors of eight f16. Vector `line * 64 + slice * 32 + eight` of a tile holds
 * depth `slice * 16 + line` and columns `eight * 8 …`: the order in which `relay.ts` lays a tile out in workgroup memory.
 */
import type { Gpu } from "../../core/device/gpu.ts";
import { IMAGE, matrixUnit, type Operands, relayFits } from "./tiling.ts";

/** How a right operand [K,columns] lies: row by row, or as an image. */
export type OperandLayout = Operands["layout"];

/**
 * The layout in which `gemm` is fastest with right operands of so many columns on this device: an image where `relay` tiles
 * serve them. Sums of several long products stay with rows: on an H200 `relay` makes two and three 1 to 3 % slower.
 * @param products that are summed, low-rank terms not counted
 */
export function operandLayout(gpu: Gpu, columns: number, products = 1): OperandLayout {
  if (gpu.tier !== "matrix" || products > 1 || columns % IMAGE.columns !== 0) return "rows";
  const unit = matrixUnit(gpu.info.capabilities);
  if (unit === undefined) return "rows";
  return relayFits(unit, gpu.device.limits, columns, hasNarrow(gpu)) ? "image" : "rows";
}

/** Whether the adapter multiplies 16 x 8 x 16 with f32 sums, which `relay` tiles are made of. */
export function hasNarrow(gpu: Gpu): boolean {
  return gpu.info.capabilities.matrixShapes.some(
    ({ m, n, k, component, result }) => m === 16 && n === 8 && k === 16 && component === "f16" && result === "f32",
  );
}

/** WGSL: which vector of an image of `depth` rows holds row `k` and the columns from `8 * eight` on. */
export const IMAGE_VECTOR = `fn image_vector(k: u32, eight: u32, depth: u32) -> u32 {
  return (eight / 32u * (depth / 32u) + k / 32u) * 1024u + k % 16u * 64u + k % 32u / 16u * 32u + eight % 32u;
}
`;

/** Where element (k, column) of B [depth,columns] lies in its image. */
export function imageIndex(k: number, column: number, depth: number): number {
  const tile = Math.floor(column / 256) * (depth / 32) + Math.floor(k / 32);
  const vector = (k % 16) * 64 + Math.floor((k % 32) / 16) * 32 + Math.floor((column % 256) / 8);
  return (tile * 1024 + vector) * 8 + (column % 8);
}
