/** f16 copies of LoRA's masters, as the products read them. */
import type { Gpu } from "../../core/device/gpu.ts";
import { gridFor, LONG_TEXT } from "../../core/device/kernel.ts";
import { elementCount, expectTensor, matrixShape, type Tensor } from "../../core/device/tensor.ts";
import { type Width, widthOf } from "../vector.ts";
import { IMAGE_VECTOR, type OperandLayout } from "./image.ts";

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

/** WGSL of the copies: tiles of 32 x 32, each invocation `width` neighbours at a time, along the row and then along the column. */
function castCode(width: Width): string {
  const [master, half] = width === 4 ? ["vec4<f32>", "vec4<f16>"] : ["f32", "f16"];
  const across = 32 / width;
  const parts = Array.from({ length: width }, (_, i) => i);
  return `${IMAGE_VECTOR}
// \`depth\` of an image, 0 for rows.
fn place(row: u32, column: u32, stride: u32, depth: u32) -> u32 {
  return select(row * stride + column, image_vector(row, column / 8u, depth) * 8u + column % 8u, depth > 0u) / ${width}u;
}
@group(0) @binding(0) var<storage, read> master: array<${master}>;
@group(0) @binding(1) var<storage, read_write> straight: array<${half}>;
@group(0) @binding(2) var<storage, read_write> transposed: array<${half}>;
var<workgroup> tile: array<f32, 1056>;
@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, @builtin(local_invocation_index) li: u32) {
  let tiles = (params.padded_columns + 31u) / 32u;
  let index = group_index(wg, count);
  let row0 = index / tiles * 32u;
  let col0 = index % tiles * 32u;
  for (var i = li; i < ${1024 / width}u; i += 256u) {
    let row = row0 + i / ${across}u;
    let inside = i % ${across}u * ${width}u;
    let column = col0 + inside;
    var value = ${master}();
    if (row < params.rows && column < params.columns) {
      value = params.scale * master[(row * params.columns + column) / ${width}u];
    }
    ${parts.map((k) => `tile[i / ${across}u * 33u + inside${width === 4 ? ` + ${k}u` : ""}] = value${width === 4 ? `[${k}]` : ""};`).join("\n    ")}
    if (row < params.padded_rows && column < params.padded_columns) {
      straight[place(params.straight_row + row, params.straight_column + column, params.straight_stride, params.straight_depth)] = ${half}(value);
    }
  }
  workgroupBarrier();
  for (var i = li; i < ${1024 / width}u; i += 256u) {
    let inside = i % ${across}u * ${width}u;
    let row = row0 + inside;
    let column = col0 + i / ${across}u;
    if (row < params.padded_rows && column < params.padded_columns) {
      let value = ${master}(${parts.map((k) => `tile[(inside + ${k}u) * 33u + i / ${across}u]`).join(", ")});
      transposed[place(params.transposed_row + column, params.transposed_column + row, params.transposed_stride, params.transposed_depth)] = ${half}(value);
    }
  }
}
`;
}

/** f16 copies of `scale * master` f32 [rows, columns], one as it lies and one transposed, zero-padded. */
export function castHalf(gpu: Gpu, master: Tensor, options: CastOptions): void {
  const [rows, columns] = matrixShape(master);
  const [paddedRows, paddedColumns] = options.padded ?? [rows, columns];
  const { straight, transposed } = options;
  expectTensor(master, [-1, -1], "f32");
  for (const target of [straight, transposed]) expectTensor(target.into, [-1, -1], "f16");
  const width = widthOf(
    columns,
    paddedRows,
    paddedColumns,
    ...[straight, transposed].flatMap(({ into, firstRow = 0, firstColumn = 0 }) => [
      firstRow,
      firstColumn,
      into.shape[1]!,
    ]),
  );
  const kernel = gpu.kernel(
    `gemm/cast-half/${width}`,
    () => ({
      code: castCode(width),
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
    }),
    LONG_TEXT,
  );
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
