/** Small kernels around the products: sums of partial results, and f16 copies of LoRA's masters. */
import type { Gpu } from "../../core/device/gpu.ts";
import { gridFor } from "../../core/device/kernel.ts";
import { elementCount, expectTensor, matrixShape, type Tensor } from "../../core/device/tensor.ts";
import { IMAGE_VECTOR, type OperandLayout } from "./image.ts";

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

/** Where a copy goes: element (r, c) of the master lies at (firstRow + r, firstColumn + c) of `into`. */
export interface CopyTarget {
  readonly into: Tensor;
  readonly firstRow?: number;
  readonly firstColumn?: number;
  /** How `into` lies; default row by row. */
  readonly layout?: OperandLayout;
}

/** Options of `castHalf`. */
export interface CastOptions {
  readonly scale: number;
  /** Shape of the copy, zeros beyond the master's own; default the master's. */
  readonly padded?: readonly [rows: number, columns: number];
  readonly straight: CopyTarget;
  /** Also a transposed copy: (r, c) lies at (firstRow + c, firstColumn + r). */
  readonly transposed: CopyTarget;
}

/** f16 copies of `scale * master` f32 [rows, columns], one as it lies and one transposed, zero-padded. */
export function castHalf(gpu: Gpu, master: Tensor, options: CastOptions): void {
  const [rows, columns] = matrixShape(master);
  const [paddedRows, paddedColumns] = options.padded ?? [rows, columns];
  const { straight, transposed } = options;
  expectTensor(master, [-1, -1], "f32");
  for (const target of [straight, transposed]) expectTensor(target.into, [-1, -1], "f16");
  const kernel = gpu.kernel("gemm/cast-half", () => ({
    code: `${IMAGE_VECTOR}
// \`depth\` of an image, 0 for rows.
fn place(row: u32, column: u32, stride: u32, depth: u32) -> u32 {
  return select(row * stride + column, image_vector(row, column / 8u, depth) * 8u + column % 8u, depth > 0u);
}
@group(0) @binding(0) var<storage, read> master: array<f32>;
@group(0) @binding(1) var<storage, read_write> straight: array<f16>;
@group(0) @binding(2) var<storage, read_write> transposed: array<f16>;
var<workgroup> tile: array<f32, 1056>;
@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, @builtin(local_invocation_index) li: u32) {
  let across = (params.padded_columns + 31u) / 32u;
  let index = group_index(wg, count);
  let row0 = index / across * 32u;
  let col0 = index % across * 32u;
  for (var i = li; i < 1024u; i += 256u) {
    let row = row0 + i / 32u;
    let column = col0 + i % 32u;
    var value = 0.0;
    if (row < params.rows && column < params.columns) {
      value = params.scale * master[row * params.columns + column];
    }
    tile[i / 32u * 33u + i % 32u] = value;
    if (row < params.padded_rows && column < params.padded_columns) {
      straight[place(params.straight_row + row, params.straight_column + column, params.straight_stride, params.straight_depth)] = f16(value);
    }
  }
  workgroupBarrier();
  for (var i = li; i < 1024u; i += 256u) {
    let row = row0 + i % 32u;
    let column = col0 + i / 32u;
    if (row < params.padded_rows && column < params.padded_columns) {
      transposed[place(params.transposed_row + column, params.transposed_column + row, params.transposed_stride, params.transposed_depth)] = f16(tile[i % 32u * 33u + i / 32u]);
    }
  }
}
`,
    bindings: ["read", "write", "write"],
    uniforms: {
      rows: "u32",
      columns: "u32",
      padded_rows: "u32",
      padded_columns: "u32",
      straight_row: "u32",
      straight_column: "u32",
      straight_stride: "u32",
      straight_depth: "u32",
      transposed_row: "u32",
      transposed_column: "u32",
      transposed_stride: "u32",
      transposed_depth: "u32",
      scale: "f32",
    },
    enable: ["f16"],
  }));
  const placed = (name: string, { into, firstRow = 0, firstColumn = 0, layout = "rows" }: CopyTarget) => ({
    [`${name}_row`]: firstRow,
    [`${name}_column`]: firstColumn,
    [`${name}_stride`]: into.shape[1]!,
    [`${name}_depth`]: layout === "image" ? into.shape[0]! : 0,
  });
  const last = ({ into, firstRow = 0, firstColumn = 0 }: CopyTarget, r: number, c: number): boolean =>
    firstRow + r <= into.shape[0]! && firstColumn + c <= into.shape[1]!;
  if (!last(straight, paddedRows, paddedColumns) || !last(transposed, paddedColumns, paddedRows)) {
    throw new RangeError(
      `${master.label}: copies of [${paddedRows},${paddedColumns}] do not fit their tensors (${elementCount(straight.into.shape)} and ${elementCount(transposed.into.shape)} elements)`,
    );
  }
  gpu.dispatch(
    kernel,
    [master, straight.into, transposed.into],
    {
      rows,
      columns,
      padded_rows: paddedRows,
      padded_columns: paddedColumns,
      ...placed("straight", straight),
      ...placed("transposed", transposed),
      scale: options.scale,
    },
    gridFor(Math.ceil(paddedRows / 32) * Math.ceil(paddedColumns / 32)),
    { bytes: rows * columns * 4 + paddedRows * paddedColumns * 4 },
  );
}
