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

/** Rows and columns of a tile. */
export const MASKED_TILE = { rows: 64, columns: 64 } as const;

const { rows: ROWS, columns: WIDTH } = MASKED_TILE;
const DEPTH = TUNING.thin.depth;

/**
 * Bindings A, B, row keys, C; uniforms `rows` (N), `columns` (in units of 16 bytes), `run` (tiles that a workgroup makes, side
 * by side) and those of dropout.
 * @param members padded rank of each; their columns lie side by side in A, their rows one below another in B
 */
export function maskedSpec(unit: MatrixUnit, members: readonly number[]): KernelSpec {
  const [subRows, subColumns] = [ROWS / 2, WIDTH / 2];
  const threads = 4 * unit.lanes;
  const [strideA, strideB] = [DEPTH / 8 + TUNING.pad, WIDTH / 8 + TUNING.pad];
  const unitsA = ROWS * strideA;
  const [perA, perB] = [DEPTH / 8, WIDTH / 8];
  const [copiesA, copiesB] = [(ROWS * DEPTH) / 8 / threads, (WIDTH * DEPTH) / 8 / threads];
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
  const registers = `${lines(copiesA, (i) => `var next_a${i}: vec4<u32>;`)}
  ${lines(copiesB, (i) => `var next_b${i}: vec4<u32>;`)}`;
  const [rowA, rowB] = [
    (i: number) => `(li / ${perA}u + ${(i * threads) / perA}u)`,
    (i: number) => `(li / ${perB}u + ${(i * threads) / perB}u)`,
  ];
  const load = (from: number, column: string): string => `${lines(
    copiesA,
    (i) => `next_a${i} = a[from_a${i} + ${from / 8}u];`,
  )}
  ${lines(copiesB, (i) => `next_b${i} = b[(${from}u + ${rowB(i)}) * params.columns + ${column} / 8u + li % ${perB}u];`)}`;
  const keep = `${lines(copiesA, (i) => `tile[${rowA(i)} * ${strideA}u + li % ${perA}u] = next_a${i};`)}
  ${lines(copiesB, (i) => `tile[${unitsA}u + ${rowB(i)} * ${strideB}u + li % ${perB}u] = next_b${i};`)}`;
  let start = 0;
  const body = members.map((rank, member) => {
    const parts = Array.from({ length: rank / DEPTH }, () => {
      start += DEPTH;
      // What comes next is read while this is multiplied and taken out; after the last tile it is read in vain.
      return `${keep}
  workgroupBarrier();
  ${start < total ? load(start, "col0") : load(0, `min(col0 + ${WIDTH}u, params.columns * 8u - ${WIDTH}u)`)}
  ${lines(DEPTH / SLICE, (slice) => `${tile.load("0", slice)}\n  ${tile.multiply("0")}`)}
  workgroupBarrier();`;
    });
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
  let runs = (params.columns / ${WIDTH / 8}u + params.run - 1u) / params.run;
  let row0 = index / runs * ${ROWS}u;
  if (row0 >= rows) {
    return;
  }
  let first_column = index % runs * params.run * ${WIDTH}u;
  let end_column = min(first_column + params.run * ${WIDTH}u, params.columns * 8u);
  let subgroup = li / ${unit.lanes}u;
  let lane = li % ${unit.lanes}u;
  let subgroup_row = row0 + subgroup / 2u * ${subRows}u;
  let left_base = subgroup / 2u * ${subRows * strideA}u;
  let right_base = ${unitsA}u + subgroup % 2u * ${subColumns / 8}u;
  ${lines(copiesA, (i) => `let from_a${i} = min(row0 + ${rowA(i)}, rows - 1u) * ${total / 8}u + li % ${perA}u;`)}
  ${registers}
  ${load(0, "first_column")}
  for (var col0 = first_column; col0 < end_column; col0 += ${WIDTH}u) {
  let subgroup_column = col0 + subgroup % 2u * ${subColumns}u;
  ${kept}
  ${body.join("\n  ")}
  ${write}
  }
}
`;
  return {
    code,
    bindings: ["read", "read", "read", "write"],
    uniforms: { rows: "u32", columns: "u32", run: "u32", ...dropoutUniforms(members.length) },
    enable: [...MATRIX_DIRECTIVES.enable],
    diagnostics: [...MATRIX_DIRECTIVES.diagnostics],
  };
}
