/**
 * The WGSL of the low-rank part of an input gradient under dropout:
 * `C [N,columns] f16 = sum over members i of mask_i * (A_i [N,R_i] * B_i [R_i,columns])`.
 * Every member has a mask of its own, so their products cannot be summed in one set of registers: each is taken out
 * through workgroup memory and added, where its mask keeps it, to sums that lie in known places.
 */
import type { KernelSpec } from "../../core/device/kernel.ts";
import { dropoutSource } from "../dropout/generator.ts";
import { dropoutUniforms } from "./dropout-text.ts";
import { PACK, stageSums } from "./pack.ts";
import { lines, MATRIX_DIRECTIVES, SLICE, SubgroupTile } from "./subgroup-tile.ts";
import { type MatrixUnit, stageUnits, TUNING } from "./tiling.ts";

/** `C = sum of masked products`. */
export interface MaskedShape {
  /** Columns of a workgroup's tile. */
  readonly width: 64 | 128;
  /** Padded rank of each member; their columns lie side by side in A, their rows one below another in B. */
  readonly members: readonly number[];
}

const ROWS = 64;
const DEPTH = TUNING.thin.depth;

/** Rows and columns of a workgroup's tile. */
export function maskedTile(columns: number): { rows: number; columns: 64 | 128 } {
  return { rows: ROWS, columns: columns % 128 === 0 ? 128 : 64 };
}

/** Bindings A, B, row keys, C; uniforms `rows` (N), `columns` (in units of 16 bytes) and those of dropout. */
export function maskedSpec(unit: MatrixUnit, shape: MaskedShape): KernelSpec {
  const { width, members } = shape;
  const [subRows, subColumns] = [ROWS / 2, width / 2];
  const threads = 4 * unit.lanes;
  const [strideA, strideB] = [DEPTH / 8 + TUNING.pad, width / 8 + TUNING.pad];
  const unitsA = ROWS * strideA;
  const [perA, perB] = [DEPTH / 8, width / 8];
  const [copiesA, copiesB] = [(ROWS * DEPTH) / 8 / threads, (width * DEPTH) / 8 / threads];
  const total = members.reduce((sum, r) => sum + r, 0);
  const tile = new SubgroupTile(
    unit,
    { rows: subRows, columns: subColumns },
    { base: "left_base", stride: strideA },
    { base: "right_base", stride: strideB },
  );
  const pieces = (unit.m * subColumns) / 8 / unit.lanes;
  const kept = lines(tile.down * pieces, (x) => {
    const name = `kept${Math.floor(x / pieces)}_${x % pieces}`;
    return `var ${name}_low = vec4<f32>(); var ${name}_high = vec4<f32>();`;
  });
  const fill = (from: number): string => `${lines(copiesA, (i) => {
    const row = `(li / ${perA}u + ${(i * threads) / perA}u)`;
    return `tile[${row} * ${strideA}u + li % ${perA}u] = a[min(row0 + ${row}, rows - 1u) * ${total / 8}u + ${from / 8}u + li % ${perA}u];`;
  })}
  ${lines(copiesB, (i) => {
    const row = `(li / ${perB}u + ${(i * threads) / perB}u)`;
    return `tile[${unitsA}u + ${row} * ${strideB}u + li % ${perB}u] = b[(${from}u + ${row}) * params.columns + col0 / 8u + li % ${perB}u];`;
  })}`;
  let start = 0;
  const body = members.map((rank, member) => {
    const parts = Array.from({ length: rank / DEPTH }, (_, part) => {
      const text = `${fill(start + part * DEPTH)}
  workgroupBarrier();
  ${lines(DEPTH / SLICE, (slice) => `${tile.load("0", slice)}\n  ${tile.multiply("0")}`)}
  workgroupBarrier();`;
      return text;
    });
    start += rank;
    return `{
  ${tile.sums()}
  ${tile.fragments("0")}
  ${parts.join("\n  ")}
  ${stageSums(unit, tile, subColumns, (i, p) => {
    const name = `kept${i}_${p}`;
    return `let key = row_keys[min(subgroup_row + ${i * unit.m}u + block_row, rows - 1u)];
    let fours = subgroup_column / 4u + eight * 2u;
    ${name}_low += select(vec4<f32>(), low, dropout_keep4(key, params.site${member}, fours, params.seed, params.threshold${member}));
    ${name}_high += select(vec4<f32>(), high, dropout_keep4(key, params.site${member}, fours + 1u, params.seed, params.threshold${member}));`;
  })}
  workgroupBarrier();
  }`;
  });
  const eights = subColumns / 8;
  const write = lines(tile.down * pieces, (x) => {
    const [i, p] = [Math.floor(x / pieces), x % pieces];
    return `{
    let row = subgroup_row + ${i * unit.m}u + (lane + ${p * unit.lanes}u) / ${eights}u;
    if (row < rows) {
      c[row * params.columns + subgroup_column / 8u + (lane + ${p * unit.lanes}u) % ${eights}u] = pack8(kept${i}_${p}_low, kept${i}_${p}_high);
    }
  }`;
  });
  const code = `
@group(0) @binding(0) var<storage, read> a: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read> b: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> row_keys: array<u32>;
@group(0) @binding(3) var<storage, read_write> c: array<vec4<u32>>;
var<workgroup> tile: array<vec4<u32>, ${Math.max(unitsA + DEPTH * strideB, 4 * stageUnits(unit, subColumns))}>;
${dropoutSource}
${PACK}
@compute @workgroup_size(${threads})
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, @builtin(local_invocation_index) li: u32) {
  let rows = params.rows;
  let index = group_index(wg, count);
  let column_tiles = params.columns / ${width / 8}u;
  let row0 = index / column_tiles * ${ROWS}u;
  if (row0 >= rows) {
    return;
  }
  let col0 = index % column_tiles * ${width}u;
  let subgroup = li / ${unit.lanes}u;
  let lane = li % ${unit.lanes}u;
  let subgroup_row = row0 + subgroup / 2u * ${subRows}u;
  let subgroup_column = col0 + subgroup % 2u * ${subColumns}u;
  let left_base = subgroup / 2u * ${subRows * strideA}u;
  let right_base = ${unitsA}u + subgroup % 2u * ${subColumns / 8}u;
  ${kept}
  ${body.join("\n  ")}
  ${write}
}
`;
  return {
    code,
    bindings: ["read", "read", "read", "write"],
    uniforms: { rows: "u32", columns: "u32", ...dropoutUniforms(members.length) },
    enable: [...MATRIX_DIRECTIVES.enable],
    diagnostics: [...MATRIX_DIRECTIVES.diagnostics],
  };
}
