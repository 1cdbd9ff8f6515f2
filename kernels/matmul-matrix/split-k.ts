import type { Gpu } from "../../core/device/gpu.ts";
import { gridFor } from "../../core/device/kernel.ts";
import type { Tensor } from "../../core/device/tensor.ts";
import { placeTile } from "./launch.ts";
import { PACK } from "./pack.ts";
import type { Tiling } from "./tiling.ts";

/** Which tiles the partial sums are of. */
export interface TailPlace {
  readonly tiling: Tiling;
  readonly group: number;
  readonly accumulate: boolean;
  readonly rows: number;
  readonly first: number;
  readonly tiles: number;
}

/** `c [N,columns] f16 = sum over parts of partial [parts, tiles, tile] f32`, tiles `first …` of a product. */
export function sumTail(gpu: Gpu, partial: Tensor, c: Tensor, place: TailPlace): void {
  const { tiling, group, accumulate, rows, first, tiles } = place;
  const [parts = 1] = partial.shape;
  const area = tiling.rows * tiling.columns;
  const key = `gemm/tail/${tiling.rows}x${tiling.columns}/g${group}`;
  const kernel = gpu.kernel(key, () => ({
    code: `
@group(0) @binding(0) var<storage, read> partial: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> c: array<vec4<u32>>;
${PACK}
@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, @builtin(local_invocation_index) li: u32) {
  let rows = params.rows;
  let i = group_index(wg, count) * 256u + li;
  if (i >= params.tiles * ${area / 8}u) {
    return;
  }
  let index = params.first + i / ${area / 8}u;
  ${placeTile(tiling, group)}
  let row = row0 + i % ${area / 8}u / ${tiling.columns / 8}u;
  if (row >= rows) {
    return;
  }
  let at = row * params.columns + col0 / 8u + i % ${tiling.columns / 8}u;
  var low = vec4<f32>();
  var high = vec4<f32>();
  for (var part = 0u; part < params.parts; part++) {
    low += partial[part * params.tiles * ${area / 4}u + 2u * i];
    high += partial[part * params.tiles * ${area / 4}u + 2u * i + 1u];
  }
  if (params.accumulate > 0u) {
    let before = unpack8(c[at]);
    low += before[0];
    high += before[1];
  }
  c[at] = pack8(low, high);
}
`,
    bindings: ["read", "write"],
    uniforms: { rows: "u32", columns: "u32", first: "u32", tiles: "u32", parts: "u32", accumulate: "u32" },
  }));
  const columns = c.shape[1]! / 8;
  gpu.dispatch(
    kernel,
    [partial, c],
    { rows, columns, first, tiles, parts, accumulate: Number(accumulate) },
    gridFor((tiles * area) / 8 / 256),
    { bytes: tiles * area * (4 * parts + (accumulate ? 4 : 2)) },
  );
}
