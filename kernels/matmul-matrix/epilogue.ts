/** Small kernels after the products: sums of partial results. */
import type { Gpu } from "../../core/device/gpu.ts";
import { gridFor } from "../../core/device/kernel.ts";
import { matrixShape, type Tensor } from "../../core/device/tensor.ts";

/** Partial sums f32 [splits, paddedRows, columns] into f16 columns `column …` of `out` [N, stride]. */
export function sumToHalf(gpu: Gpu, partial: Tensor, out: Tensor, rows: number, column: number): void {
  const [splits = 0, paddedRows = 0, columns = 0] = partial.shape;
  const stride = out.shape[1]!;
  const kernel = gpu.kernel("gemm/sum-to-half", () => ({
    code: `
@group(0) @binding(0) var<storage, read> partial: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> out: array<vec2<u32>>;
@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, @builtin(local_invocation_index) li: u32) {
  let i = group_index(wg, count) * 256u + li;
  let row = i / params.columns;
  if (row >= params.rows) {
    return;
  }
  var sum = vec4<f32>();
  for (var s = 0u; s < params.splits; s++) {
    sum += partial[s * params.padded_rows * params.columns + i];
  }
  out[row * params.stride + params.column + i % params.columns] = vec2<u32>(pack2x16float(sum.xy), pack2x16float(sum.zw));
}
`,
    bindings: ["read", "write"],
    uniforms: { rows: "u32", splits: "u32", padded_rows: "u32", columns: "u32", stride: "u32", column: "u32" },
  }));
  gpu.dispatch(
    kernel,
    [partial, out],
    { rows, splits, padded_rows: paddedRows, columns: columns / 4, stride: stride / 4, column: column / 4 },
    gridFor((rows * columns) / 4 / 256),
  );
}

/**
 * `grad [r,c] f32 += scale * sum over splits of partial [splits, rows, columns]`, from row `firstRow` of the partial
 * sums on; their padding is left out.
 */
export function addToGradient(gpu: Gpu, partial: Tensor, grad: Tensor, scale: number, firstRow = 0): void {
  const [splits = 0, partialRows = 0, partialColumns = 0] = partial.shape;
  const [rows, columns] = matrixShape(grad);
  const kernel = gpu.kernel("gemm/add-to-gradient", () => ({
    code: `
@group(0) @binding(0) var<storage, read> partial: array<f32>;
@group(0) @binding(1) var<storage, read_write> grad: array<f32>;
@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, @builtin(local_invocation_index) li: u32) {
  let i = group_index(wg, count) * 256u + li;
  if (i >= params.size) {
    return;
  }
  let at = (params.first_row + i / params.columns) * params.partial_columns + i % params.columns;
  var sum = 0.0;
  for (var s = 0u; s < params.splits; s++) {
    sum += partial[s * params.split_size + at];
  }
  grad[i] += params.scale * sum;
}
`,
    bindings: ["read", "write"],
    uniforms: {
      size: "u32",
      columns: "u32",
      partial_columns: "u32",
      first_row: "u32",
      splits: "u32",
      split_size: "u32",
      scale: "f32",
    },
  }));
  const size = rows * columns;
  gpu.dispatch(
    kernel,
    [partial, grad],
    {
      size,
      columns,
      partial_columns: partialColumns,
      first_row: firstRow,
      splits,
      split_size: partialRows * partialColumns,
      scale,
    },
    gridFor(size / 256),
    { bytes: size * 4 * (splits + 2) },
  );
}
