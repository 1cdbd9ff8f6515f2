/**
 * Gradients of the scores go through memory: the kernel over keys, which needs them anyway, leaves them as f16, and what
 * makes the queries' gradient of them is one product where recomputing them would take three.
 *
 * They lie in tiles of `tileRows` keys x 16 queries, a key's 16 queries side by side: tile (head, tile of keys, block of
 * queries), blocks counted from the first query of the tile of keys on. Tiles that no pair of the batch falls in are not
 * written, and not read.
 */
import type { KernelSpec } from "../../core/device/kernel.ts";
import { PACK, stageSums } from "../matmul-matrix/pack.ts";
import { lines, MATRIX_DIRECTIVES, SLICE, SubgroupTile } from "../matmul-matrix/subgroup-tile.ts";
import { stageUnits } from "../matmul-matrix/tiling.ts";
import { type HeadShape, LANES, SIDE } from "./matrix-plan.ts";

/** Blocks of 16 queries that may see a tile of keys: from its own first row to what the last key is seen by. */
export function spilledBlocks(tileRows: number, longest: number, window: number): number {
  const seen = window === 0 ? longest : Math.min(longest, window);
  return Math.floor((tileRows + seen - 2) / SIDE) + 1;
}

/** Where the spilling kernel writes a tile's row: `row` of the batch is key `slot` of its tile. */
export const SPILL_UNIFORMS = { kv_first: "u32", kv_count: "u32", blocks: "u32" } as const;

/** How `matrixSpilledQueries` divides its work. */
export interface SpillTuning {
  /** Queries to a workgroup's tile. */
  readonly queries: 64 | 128;
  /** Keys that pass at a time. */
  readonly keys: 32 | 64;
  /** Workgroups that share a head's columns. */
  readonly split: 1 | 2;
}

/** What measured fastest on an H200 at 256; at 128 two workgroups would have 32 columns a subgroup. */
export function spillTuning(headDim: number): SpillTuning {
  return { queries: 128, keys: 32, split: headDim === 256 ? 2 : 1 };
}

const UNIT = { m: SIDE, n: SIDE, k: SIDE, lanes: LANES };

/**
 * dQ of a tile of queries of one head: the gradients of their scores, transposed, times the keys.
 * Bindings: gradients of the scores, k, segments, dQ.
 * @param tileRows keys to a tile of the gradients
 */
export function matrixSpilledQueries(
  { heads, kvHeads, headDim }: HeadShape,
  tileRows: number,
  { queries, keys, split }: SpillTuning,
): KernelSpec {
  const width = headDim / split;
  const columns = Math.min(64, width);
  const across = width / columns;
  const rowsEach = queries / 2;
  const threads = 2 * across * LANES;
  const rowVectors = width / 8;
  const [strideS, strideK] = [queries / 8 + 1, rowVectors + 1];
  const unitsS = keys * strideS;
  const [copiesS, copiesK] = [(keys * queries) / 8 / threads, (keys * rowVectors) / threads];
  const tile = new SubgroupTile(
    UNIT,
    { rows: rowsEach, columns },
    { base: "left_base", stride: strideS },
    { base: "right_base", stride: strideK },
    "col_major",
  );
  const units = Math.max(unitsS + keys * strideK, (threads / LANES) * stageUnits(UNIT, columns));
  /** The thread's i-th vector of the gradients: half of the queries of a block, of one key. */
  const vector = (i: number): string => `(index + ${i * threads}u)`;
  const load = (base: string): string => `{
    let key_tile = ${base} / ${tileRows}u;
    let last_key = key_tile * ${tileRows}u + ${tileRows - 1}u;
    ${lines(
      copiesS,
      (i) => `next_s${i} = vec4<u32>(0u);
    if (low${i} <= last_key && key_tile * ${tileRows / SIDE}u <= block${i}) {
      next_s${i} = gradients[((spilled_head * params.key_tiles + key_tile) * params.blocks + block${i} - key_tile * ${tileRows / SIDE}u) * ${tileRows * 2}u + ${base} % ${tileRows}u * 2u + ${vector(i)} % ${keys * 2}u];
    }`,
    )}
    ${lines(
      copiesK,
      (i) =>
        `next_k${i} = k[(min(${base} + ${vector(i)} / PART, rows - 1u) * KV_HEADS + kv_head) * ROW + first_vector + ${vector(i)} % PART];`,
    )}
  }`;
  const code = `@group(0) @binding(0) var<storage, read> gradients: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read> k: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> segments: array<vec2<u32>>;
@group(0) @binding(3) var<storage, read_write> d_q: array<vec4<u32>>;
const HEADS = ${heads}u; const KV_HEADS = ${kvHeads}u; const GROUP = HEADS / KV_HEADS;
const ROW = ${headDim / 8}u; const PART = ${rowVectors}u; // vectors of a head, and of a workgroup's part of it
var<workgroup> tile: array<vec4<u32>, ${units}>;
${PACK}
@compute @workgroup_size(${threads})
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, @builtin(local_invocation_index) index: u32) {
  let rows = params.rows;
  let group = group_index(wg, count);
  let parts = params.kv_count * GROUP * ${split}u;
  if (group >= params.tiles * parts) { return; }
  let spilled_head = group % parts / ${split}u;
  let first_vector = group % ${split}u * PART;
  let head = params.kv_first * GROUP + spilled_head;
  let kv_head = head / GROUP;
  let first = (params.tiles - 1u - group / parts) * ${queries}u; // the longest rows first
  let last = min(first + ${queries}u, rows) - 1u;
  let lowest = max(segments[first].x, first - min(first, params.window - 1u));
  let subgroup = index / ${LANES}u;
  let lane = index % ${LANES}u;
  let left_base = subgroup / ${across}u * ${rowsEach / 8}u;
  let right_base = ${unitsS}u + subgroup % ${across}u * ${columns / 8}u;
  ${lines(
    copiesS,
    (i) => `let block${i} = first / ${SIDE}u + ${vector(i)} / ${keys * 2}u;
  var low${i} = 0xffffffffu; // the lowest key that the block sees
  if (block${i} * ${SIDE}u < rows) {
    low${i} = max(segments[block${i} * ${SIDE}u].x, block${i} * ${SIDE}u - min(block${i} * ${SIDE}u, params.window - 1u));
  }
  let to_s${i} = ${vector(i)} % ${keys * 2}u / 2u * ${strideS}u + ${vector(i)} / ${keys * 2}u * 2u + ${vector(i)} % 2u;
  var next_s${i}: vec4<u32>;`,
  )}
  ${lines(
    copiesK,
    (i) => `let to_k${i} = ${unitsS}u + ${vector(i)} / PART * ${strideK}u + ${vector(i)} % PART;
  var next_k${i}: vec4<u32>;`,
  )}
  ${tile.sums()}
  ${tile.fragments("0")}
  let begin = lowest / ${keys}u * ${keys}u;
  ${load("begin")}
  for (var base = begin; base <= last; base += ${keys}u) {
    ${lines(copiesS, (i) => `tile[to_s${i}] = next_s${i};`)}
    ${lines(copiesK, (i) => `tile[to_k${i}] = next_k${i};`)}
    workgroupBarrier();
    let ahead = base + ${keys}u;
    ${load("ahead")}
    ${lines(keys / SLICE, (slice) => `${tile.load("0", slice)}\n  ${tile.multiply("0")}`)}
    workgroupBarrier();
  }
  ${stageSums(
    UNIT,
    tile,
    columns,
    (i) => `let row = first + subgroup / ${across}u * ${rowsEach}u + ${i * SIDE}u + block_row;
    if (row < rows) {
      d_q[(row * HEADS + head) * ROW + first_vector + subgroup % ${across}u * ${columns / 8}u + eight] = pack8(low * params.scale, high * params.scale);
    }`,
  )}
}
`;
  return {
    code,
    bindings: ["read", "read", "read", "write"],
    uniforms: { rows: "u32", tiles: "u32", key_tiles: "u32", window: "u32", scale: "f32", ...SPILL_UNIFORMS },
    enable: [...MATRIX_DIRECTIVES.enable],
    diagnostics: [...MATRIX_DIRECTIVES.diagnostics],
  };
}
