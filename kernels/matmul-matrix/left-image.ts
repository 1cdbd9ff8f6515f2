/**
 * How a left operand lies in memory so that `relay` tiles copy it in one piece: A [N,K] as tiles [N / 128][K / 32], a tile as
 * 512 vectors of eight f16 in the order in which the invocations of one half of the subgroups copy them. Rows past N, up to
 * a multiple of 128, repeat the last.
 */
import type { Gpu } from "../../core/device/gpu.ts";
import { gridFor } from "../../core/device/kernel.ts";
import { expectTensor, matrixShape, type Tensor } from "../../core/device/tensor.ts";
import { operandLayout } from "./image.ts";
import { tilingOf } from "./support.ts";
import { LEFT_IMAGE, TUNING } from "./tiling.ts";

/** WGSL: the row, of 32, that four lanes copy; permuted within eights so that stores of eight lanes meet eight banks. */
export function leftRow(four: string): string {
  return `((${four} & ~7u) | ((${four} & 1u) << 2u) | ((${four} >> 1u) & 3u))`;
}

/** Where element (row, k) of A [N,depth] lies in its image. */
export function leftImageIndex(row: number, k: number, depth: number): number {
  const { rows, vectors } = LEFT_IMAGE;
  const tile = Math.floor(row / rows) * (depth / 32) + Math.floor(k / 32);
  const inEight = ((row & 3) << 1) | ((row >> 2) & 1);
  const four = Math.floor((row % 32) / 8) * 8 + inEight;
  const vector = Math.floor((row % rows) / 32) * 128 + four * 4 + Math.floor((k % 32) / 8);
  return (tile * vectors + vector) * 8 + (k % 8);
}

/**
 * `a` [N,K] f16 as an image, a scratch tensor which the caller frees.
 * @throws RangeError where K is no multiple of 64
 */
export function packLeft(gpu: Gpu, a: Tensor): Tensor {
  const [rows, depth] = matrixShape(a);
  expectTensor(a, [-1, -1], "f16");
  if (depth % TUNING.depthMultiple !== 0) throw new RangeError(`${a.label}: a depth of ${depth} is no multiple of 64`);
  const tiles = Math.ceil(rows / LEFT_IMAGE.rows);
  const image = gpu.alloc([tiles * LEFT_IMAGE.rows, depth], "f16", `${a.label} packed`, "scratch");
  const kernel = gpu.kernel("gemm/pack-left", () => ({
    code: `
@group(0) @binding(0) var<storage, read> a: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read_write> image: array<vec4<u32>>;
@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, @builtin(local_invocation_index) li: u32) {
  let index = group_index(wg, count);
  let row_tile = index / (params.depth / 8u);
  if (row_tile * ${LEFT_IMAGE.rows}u >= params.rows) {
    return;
  }
  // Two tiles side by side: 128 bytes of each row.
  let tile = index % (params.depth / 8u) * 2u + li / 128u;
  let lj = li % 128u;
  let four = lj / 4u;
  let row = row_tile * ${LEFT_IMAGE.rows}u + ${leftRow("four")};
  let to = (row_tile * (params.depth / 4u) + tile) * ${LEFT_IMAGE.vectors}u + lj;
  for (var i = 0u; i < 4u; i++) {
    image[to + i * 128u] = a[min(row + i * 32u, params.rows - 1u) * params.depth + tile * 4u + lj % 4u];
  }
}
`,
    bindings: ["read", "write"],
    uniforms: { rows: "u32", depth: "u32" },
  }));
  const bytes = 2 * depth * (rows + tiles * LEFT_IMAGE.rows);
  gpu.dispatch(kernel, [a, image], { rows, depth: depth / 8 }, gridFor(tiles * (depth / 64)), { bytes });
  return image;
}

/**
 * `packLeft` where that is faster than it costs: for products with so many columns that reading `a` is most of their copying.
 * @param columns of each product of `a` with an image
 */
export function packWherePaid(gpu: Gpu, a: Tensor, columns: readonly number[]): Tensor | undefined {
  const [rows, depth] = matrixShape(a);
  const { rows: least, depth: deep, columns: wide } = TUNING.packLeft;
  const sum = columns.reduce((total, each) => total + each, 0);
  if (rows < least || depth < deep || depth % TUNING.depthMultiple !== 0 || sum < wide) return undefined;
  const packs = columns.every(
    (each) => operandLayout(gpu, each) === "image" && tilingOf(gpu, rows, each, [depth], "image").relay === true,
  );
  return packs ? packLeft(gpu, a) : undefined;
}
