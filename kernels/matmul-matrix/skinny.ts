/**
 * The WGSL of products with a low-rank side. Both are bound by reading their large operand once, so they are plain:
 * one buffer of workgroup memory, one register set of prefetch, several workgroups a multiprocessor to hide latency.
 *
 * - `thinSpec`: C [N,r] = A [N,K] * B [K,r], with dropout on A (what LoRA's A makes of x, what B^T makes of dY);
 * - `tokenSumSpec`: C [F,r] = A [N,F]^T * B [N,r], summed over tokens (gradients of LoRA's A and B).
 *
 * Long sums are split over workgroups into partial sums that another kernel adds in a fixed order. Sizes are uniforms,
 * widths in units of 16 bytes, so that linears of all sizes share a kernel.
 */
import type { KernelSpec } from "../../core/device/kernel.ts";
import { DROP8, dropoutUniforms, pickMember } from "./dropout-text.ts";
import { PACK, stageSums } from "./pack.ts";
import { lines, MATRIX_DIRECTIVES, SLICE, SubgroupTile } from "./subgroup-tile.ts";
import { type MatrixUnit, stageUnits, TUNING } from "./tiling.ts";

const { columns: WIDTH, depth: DEPTH } = TUNING.thin;
/** Row strides of the workgroup tiles, in 16-byte units; odd, as in the large product. */
const DEPTH_STRIDE = DEPTH / 8 + TUNING.pad;
const WIDTH_STRIDE = WIDTH / 8 + TUNING.pad;

/** Rows (or features) of a workgroup's tile. */
export type TileRows = 64 | 256;

/** `C = dropout(A) * B`. */
export interface ThinShape {
  /** Rows of a workgroup's tile. */
  readonly tileRows: TileRows;
  /** f16 into columns of a tensor; else f32 partial sums [splits, padded N, columns]. */
  readonly half: boolean;
  /** Columns that each dropout mask of A covers; undefined without dropout. */
  readonly members: readonly number[] | undefined;
}

const header = (threads: number): string => `
@compute @workgroup_size(${threads})
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, @builtin(local_invocation_index) li: u32) {
  let rows = params.rows;
  let index = group_index(wg, count);
`;

/** Rows of a tile that one subgroup takes; two subgroups share them, each half of the columns. */
const SUBGROUP_ROWS = 32;

/** Invocations of a workgroup. */
function thinThreads({ lanes }: MatrixUnit, tileRows: number): number {
  return (tileRows / SUBGROUP_ROWS) * 2 * lanes;
}

/** Where the subgroup stands, and its part of the product. */
function subgroups(
  unit: MatrixUnit,
  leftStride: number,
  rightFirst: number,
  transposed: boolean,
): { tile: SubgroupTile; text: string } {
  const rows = SUBGROUP_ROWS;
  const text = `let subgroup = li / ${unit.lanes}u;
  let lane = li % ${unit.lanes}u;
  let left_base = subgroup / 2u * ${transposed ? rows / 8 : rows * leftStride}u;
  let right_base = ${rightFirst}u + subgroup % 2u * ${WIDTH / 16}u;
  let subgroup_row = row0 + subgroup / 2u * ${rows}u;
  let subgroup_column = col0 + subgroup % 2u * ${WIDTH / 2}u;`;
  const left = { base: "left_base", stride: leftStride };
  const right = { base: "right_base", stride: WIDTH_STRIDE };
  return {
    tile: new SubgroupTile(unit, { rows, columns: WIDTH / 2 }, left, right, transposed ? "col_major" : "row_major"),
    text,
  };
}

const multiplyTile = (tile: SubgroupTile): string =>
  lines(DEPTH / SLICE, (slice) => `${tile.load("0", slice)}\n  ${tile.multiply("0")}`);

function directives(
  shape: { readonly members: readonly number[] | undefined },
  uniforms: Record<string, "u32">,
): Pick<KernelSpec, "uniforms" | "enable" | "diagnostics"> {
  return {
    uniforms: shape.members === undefined ? uniforms : { ...uniforms, ...dropoutUniforms(shape.members.length) },
    enable: [...MATRIX_DIRECTIVES.enable],
    diagnostics: [...MATRIX_DIRECTIVES.diagnostics],
  };
}

/**
 * Bindings A, B, C and, with dropout, row keys; uniforms `rows` (N), `depth` (K) and `columns` (of B), `splits` of K,
 * `part` (elements of K in a split, a multiple of 64), `stride` and `column` of an f16 C, and those of dropout.
 */
export function thinSpec(unit: MatrixUnit, shape: ThinShape): KernelSpec {
  const { tileRows, half, members } = shape;
  const code = `
@group(0) @binding(0) var<storage, read> a: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read> b: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read_write> c: array<${half ? "vec4<u32>" : "f32"}>;
${members === undefined ? "" : `@group(0) @binding(3) var<storage, read> row_keys: array<u32>;\n${DROP8}`}
var<workgroup> tile: array<vec4<u32>, ${thinUnits(unit, tileRows)}>;
${PACK}
${header(thinThreads(unit, tileRows))}
  let row_tiles = (rows + ${tileRows - 1}u) / ${tileRows}u;
  let column_tiles = params.columns / ${WIDTH / 8}u;
  if (index >= row_tiles * column_tiles * params.splits) {
    return;
  }
  // Column tiles of one row tile run side by side, so that all but the first find A in L2.
  let col0 = index % column_tiles * ${WIDTH}u;
  let split = index / column_tiles % params.splits;
  let row0 = index / (column_tiles * params.splits) * ${tileRows}u;
  ${thinBody(unit, shape, { left: "a", right: "b", out: "c" })}
}
`;
  return {
    code,
    bindings: members === undefined ? ["read", "read", "write"] : ["read", "read", "write", "read"],
    ...directives(shape, {
      rows: "u32",
      depth: "u32",
      columns: "u32",
      splits: "u32",
      part: "u32",
      ...(half ? { stride: "u32", column: "u32" } : {}),
    }),
  };
}

/** Arrays that a body reads and writes. */
interface Arrays {
  readonly left: string;
  readonly right: string;
  readonly out: string;
}

function thinUnits(unit: MatrixUnit, tileRows: number): number {
  return Math.max(
    tileRows * DEPTH_STRIDE + DEPTH * WIDTH_STRIDE,
    (thinThreads(unit, tileRows) / unit.lanes) * stageUnits(unit, WIDTH / 2),
  );
}

/** The product of a tile: needs `rows`, `row_tiles`, `row0`, `col0` and `split`. */
function thinBody(unit: MatrixUnit, { tileRows, half, members }: ThinShape, { left, right, out }: Arrays): string {
  const threads = thinThreads(unit, tileRows);
  const [copiesA, copiesB] = [(tileRows * DEPTH) / 8 / threads, (WIDTH * DEPTH) / 8 / threads];
  const unitsA = tileRows * DEPTH_STRIDE;
  const perRow = DEPTH / 8;
  const { tile, text } = subgroups(unit, DEPTH_STRIDE, unitsA, false);
  const load = (k: string): string => `${lines(copiesA, (i) => `next_a${i} = ${left}[from_a${i} + ${k} / 8u];`)}
  ${lines(copiesB, (i) => `next_b${i} = ${right}[from_b${i} + ${k} * params.columns];`)}`;
  const kept = (i: number): string =>
    members === undefined
      ? `next_a${i}`
      : `drop8(next_a${i}, key${i}, site, threshold, first_k + k + li % ${perRow}u * 8u)`;
  const partial = `let columns = params.columns * 8u;
  let out_row = split * (row_tiles * ${tileRows}u) + subgroup_row;
  ${lines(tile.down * tile.across, (x) => {
    const [i, j] = [Math.floor(x / tile.across), x % tile.across];
    return `subgroupMatrixStore<row_major>(&${out}, (out_row + ${i * unit.m}u) * columns + subgroup_column + ${j * unit.n}u, sum${i}_${j}, columns);`;
  })}`;
  const packed = stageSums(
    unit,
    tile,
    WIDTH / 2,
    (i) => `let row = subgroup_row + ${i * unit.m}u + block_row;
    if (row < rows) {
      ${out}[row * params.stride + params.column + subgroup_column / 8u + eight] = pack8(low, high);
    }`,
  );
  return `let first_k = split * params.part;
  ${members === undefined ? "" : pickMember(members, "col0")}
  ${text}
  ${lines(copiesA, (i) => {
    const row = `(li / ${perRow}u + ${(i * threads) / perRow}u)`;
    const key = members === undefined ? "" : `let key${i} = row_keys[min(row0 + ${row}, rows - 1u)];`;
    return `let from_a${i} = min(row0 + ${row}, rows - 1u) * params.depth + first_k / 8u + li % ${perRow}u;
  let to_a${i} = ${row} * ${DEPTH_STRIDE}u + li % ${perRow}u;
  ${key}
  var next_a${i}: vec4<u32>;`;
  })}
  ${lines(copiesB, (i) => {
    const at = `(li + ${i * threads}u)`;
    return `let from_b${i} = (first_k + ${at} / ${WIDTH / 8}u) * params.columns + col0 / 8u + ${at} % ${WIDTH / 8}u;
  let to_b${i} = ${unitsA}u + ${at} / ${WIDTH / 8}u * ${WIDTH_STRIDE}u + ${at} % ${WIDTH / 8}u;
  var next_b${i}: vec4<u32>;`;
  })}
  ${tile.sums()}
  ${tile.fragments("0")}
  ${load("0u")}
  for (var k = 0u; k < params.part; k += ${DEPTH}u) {
  ${lines(copiesA, (i) => `tile[to_a${i}] = ${kept(i)};`)}
  ${lines(copiesB, (i) => `tile[to_b${i}] = next_b${i};`)}
  workgroupBarrier();
  let ahead = min(k + ${DEPTH}u, params.part - ${DEPTH}u);
  ${load("ahead")}
  ${multiplyTile(tile)}
  workgroupBarrier();
  }
  ${half ? packed : partial}`;
}

/** `C = dropout(A)^T * B`. */
export interface TokenSumShape {
  /** Features (columns of A) of a workgroup's tile. */
  readonly tileFeatures: TileRows;
  /** Partial sums [splits, F, columns], or transposed [splits, columns, F]. */
  readonly transposed: boolean;
  /** Columns that each dropout mask of A covers; undefined without dropout. */
  readonly members: readonly number[] | undefined;
}

/**
 * Bindings A, B, C and, with dropout, row keys; uniforms `rows` (N), `features` (columns of A), `columns` of B that take
 * part, from `column` of a `stride` on, `chunk` (tokens of a split, a multiple of 64), `splits`, and those of dropout.
 */
export function tokenSumSpec(unit: MatrixUnit, shape: TokenSumShape): KernelSpec {
  const { tileFeatures, members } = shape;
  const code = `
@group(0) @binding(0) var<storage, read> a: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read> b: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read_write> c: array<f32>;
${members === undefined ? "" : `@group(0) @binding(3) var<storage, read> row_keys: array<u32>;\n${DROP8}`}
var<workgroup> tile: array<vec4<u32>, ${tokenSumUnits(tileFeatures)}>;
${header(thinThreads(unit, tileFeatures))}
  let column_tiles = params.columns / ${WIDTH / 8}u;
  let feature_tiles = params.features / ${tileFeatures / 8}u;
  if (index >= params.splits * column_tiles * feature_tiles) {
    return;
  }
  let col0 = index % column_tiles * ${WIDTH}u;
  let row0 = index / column_tiles % feature_tiles * ${tileFeatures}u;
  let split = index / (column_tiles * feature_tiles);
  ${tokenSumBody(unit, shape, { left: "a", right: "b", out: "c" })}
}
`;
  return {
    code,
    bindings: members === undefined ? ["read", "read", "write"] : ["read", "read", "write", "read"],
    ...directives(shape, {
      rows: "u32",
      features: "u32",
      columns: "u32",
      column: "u32",
      stride: "u32",
      chunk: "u32",
      splits: "u32",
    }),
  };
}

function tokenSumUnits(tileFeatures: number): number {
  return DEPTH * (tileFeatures / 8 + TUNING.pad) + DEPTH * WIDTH_STRIDE;
}

/** The sum of a tile: needs `rows`, `row0` (its first feature), `col0` and `split`. */
function tokenSumBody(
  unit: MatrixUnit,
  { tileFeatures: tileRows, transposed, members }: TokenSumShape,
  { left, right, out }: Arrays,
): string {
  const threads = thinThreads(unit, tileRows);
  const strideA = tileRows / 8 + TUNING.pad;
  const [perA, perB] = [tileRows / 8, WIDTH / 8];
  const [copiesA, copiesB] = [(tileRows * DEPTH) / 8 / threads, (WIDTH * DEPTH) / 8 / threads];
  const unitsA = DEPTH * strideA;
  const { tile, text } = subgroups(unit, strideA, unitsA, true);
  const tokenA = (i: number): string => `(li / ${perA}u + ${(i * threads) / perA}u)`;
  const tokenB = (i: number): string => `(li / ${perB}u + ${(i * threads) / perB}u)`;
  // Tokens past the end add nothing: zeros, so that not even a NaN beyond the tensor counts.
  const load = (k: string): string => `${lines(copiesA, (i) => {
    const key = members === undefined ? "" : `key${i} = row_keys[min(${k} + ${tokenA(i)}, rows - 1u)];`;
    return `next_a${i} = vec4<u32>(0u); if (${k} + ${tokenA(i)} < end) { next_a${i} = ${left}[(${k} + ${tokenA(i)}) * params.features + from_a]; } ${key}`;
  })}
  ${lines(copiesB, (i) => `next_b${i} = vec4<u32>(0u); if (${k} + ${tokenB(i)} < end) { next_b${i} = ${right}[(${k} + ${tokenB(i)}) * params.stride + from_b]; }`)}`;
  const kept = (i: number): string =>
    members === undefined ? `next_a${i}` : `drop8(next_a${i}, key${i}, site, threshold, from_a * 8u)`;
  const store = lines(tile.down * tile.across, (x) => {
    const [i, j] = [Math.floor(x / tile.across), x % tile.across];
    const [row, col] = [`(subgroup_row + ${i * unit.m}u)`, `(subgroup_column + ${j * unit.n}u)`];
    return transposed
      ? `subgroupMatrixStore<col_major>(&${out}, (split * columns + ${col}) * features + ${row}, sum${i}_${j}, features);`
      : `subgroupMatrixStore<row_major>(&${out}, (split * features + ${row}) * columns + ${col}, sum${i}_${j}, columns);`;
  });
  return `let columns = params.columns * 8u;
  let features = params.features * 8u;
  let begin = split * params.chunk;
  let end = min(begin + params.chunk, rows);
  ${members === undefined ? "" : pickMember(members, "col0")}
  ${text}
  let from_a = row0 / 8u + li % ${perA}u;
  let from_b = params.column + col0 / 8u + li % ${perB}u;
  ${lines(copiesA, (i) => `let to_a${i} = ${tokenA(i)} * ${strideA}u + li % ${perA}u; var next_a${i}: vec4<u32>; ${members === undefined ? "" : `var key${i}: u32;`}`)}
  ${lines(copiesB, (i) => `let to_b${i} = ${unitsA}u + ${tokenB(i)} * ${WIDTH_STRIDE}u + li % ${perB}u; var next_b${i}: vec4<u32>;`)}
  ${tile.sums()}
  ${tile.fragments("0")}
  ${load("begin")}
  for (var k = begin; k < end; k += ${DEPTH}u) {
  ${lines(copiesA, (i) => `tile[to_a${i}] = ${kept(i)};`)}
  ${lines(copiesB, (i) => `tile[to_b${i}] = next_b${i};`)}
  workgroupBarrier();
  let ahead = k + ${DEPTH}u;
  ${load("ahead")}
  ${multiplyTile(tile)}
  workgroupBarrier();
  }
  ${store}`;
}
