import type { KernelSpec } from "../../core/device/kernel.ts";
import { lines, MATRIX_DIRECTIVES } from "../matmul-matrix/subgroup-tile.ts";
import * as wgsl from "./matrix-parts.ts";
import { type MatrixPlan, SIDE } from "./matrix-plan.ts";
import { SPILL_UNIFORMS } from "./matrix-spill.ts";

const INPUTS = `@group(0) @binding(0) var<storage, read> q: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read> k: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> v: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read> segments: array<vec2<u32>>;
@group(0) @binding(4) var<storage, read> d_out: array<vec4<u32>>;
@group(0) @binding(5) var<storage, read> lse: array<f32>;
@group(0) @binding(6) var<storage, read> delta: array<f32>;
const LOG2E = ${Math.LOG2E};`;

const READS = Array.from({ length: 7 }, () => "read" as const);

const HELD_QUERIES: readonly wgsl.HeldRows[] = [
  { name: "q", array: "q", sums: "scores" },
  { name: "o", array: "d_out", sums: "d_weights" },
];
const HELD_KEYS: readonly wgsl.HeldRows[] = [
  { name: "k", array: "k", sums: "scores" },
  { name: "v", array: "v", sums: "d_weights" },
];

/**
 * dQ of a tile of queries, which are held with their rows of dOut while keys and values pass.
 * Bindings: q, k, v, segments, dOut, lse, delta, dQ.
 */
export function matrixQueries(plan: MatrixPlan, capped: boolean): KernelSpec {
  const { quads, packed, threads, prefetch, columns } = plan;
  const head = (b: number): string => `(head + block${b} % ${packed}u)`;
  const read = (base: string): string =>
    ["k", "v"].map((name) => wgsl.readRows(plan, name, name, base, "last", "KV_HEADS", "kv_head")).join("\n");
  const code = `${INPUTS}
@group(0) @binding(7) var<storage, read_write> d_q: array<vec4<u32>>;
${wgsl.declarations(plan, ["keys", "values"], ["scores", "d_weights"], ["gradients"])}
${wgsl.scoreFunctions(capped)}

@compute @workgroup_size(${threads})
${wgsl.ENTRY}
  let group = group_index(wg, count);
  if (group >= params.tiles * ${plan.heads / packed}u) { return; }
  let head = group % ${plan.heads / packed}u * ${packed}u;
  let kv_head = head / GROUP;
  let first = (params.tiles - 1u - group / ${plan.heads / packed}u) * ${plan.tileRows}u;
  let last = min(first + ${plan.tileRows}u, params.rows) - 1u;
  let lowest = max(segments[first].x, first - min(first, params.window - 1u));
  ${wgsl.place(plan)}
  ${wgsl.lanePlace(plan)}
  let low = max(segments[row].x, row - min(row, params.window - 1u));
  let own_lse = lse[row * HEADS + head + own_block % ${packed}u] * LOG2E;
  let own_delta = delta[row * HEADS + head + own_block % ${packed}u];

  ${wgsl.heldRows(plan, HELD_QUERIES, "HEADS", head)}
  ${wgsl.accumulators(plan, "g")}
  ${wgsl.rowRegisters(plan, "k")}
  ${wgsl.rowRegisters(plan, "v")}
  ${prefetch ? read("lowest") : ""}

  for (var base = lowest; base <= last; base += ${columns}u) {
    ${prefetch ? "" : read("base")}
    workgroupBarrier();
    ${wgsl.keepRows(plan, "k", "keys")}
    ${wgsl.keepRows(plan, "v", "values")}
    workgroupBarrier();
    ${prefetch ? read(`base + ${columns}u`) : ""}
    ${wgsl.products(plan, "q", "keys", "scores")}
    ${wgsl.products(plan, "o", "values", "d_weights")}
    workgroupBarrier();
    ${lines(
      quads,
      (i) => `{
    let seen = (vec4<u32>(0u, 1u, 2u, 3u) + (base + ${wgsl.columnOf(plan, i)} - low)) <= vec4<u32>(row - low);
    let squashed = squash(${wgsl.quadOf(plan, "scores", i)});
    let weight = select(vec4<f32>(0.0), exp2(squashed * params.outer - own_lse), seen);
    let gradient = weight * (${wgsl.quadOf(plan, "d_weights", i)} - own_delta) * slope(squashed);
    ${wgsl.keepQuad(plan, "gradients", i, "gradient")}
    }`,
    )}
    workgroupBarrier();
    ${wgsl.accumulateRows(plan, "gradients", "keys", "g")}
  }
  ${wgsl.writeRows(plan, "g", "scores", "d_q", "HEADS", head, () => "params.scale")}
}
`;
  return { code, bindings: [...READS, "write"], uniforms: wgsl.MATRIX_UNIFORMS, ...MATRIX_DIRECTIVES };
}

/** Which gradients the kernel over keys computes; `spilled` is both, and those of the scores besides. */
export type Wanted = "both" | "keys" | "values" | "spilled";

/**
 * dK and dV (or one of them) of a tile of keys, which are held with their values while the queries of every head of
 * the group and their rows of dOut pass.
 * Bindings: q, k, v, segments, dOut, lse, delta, then dK and dV as wanted, then the gradients of the scores where they are
 * spilled for the queries' gradient (`matrix-spill.ts`), for kv heads `kv_first …` alone.
 */
export function matrixKeys(plan: MatrixPlan, capped: boolean, wanted: Wanted): KernelSpec {
  const { quads, threads, prefetch, columns, sharers, tileRows } = plan;
  const ofKeys = wanted !== "values";
  const ofValues = wanted !== "keys";
  const spilled = wanted === "spilled";
  const when = (condition: boolean, text: string): string => (condition ? text : "");
  const kvHead = (): string => "kv_head";
  // Queries pass head by head; after the last row of one head comes the first of the next.
  const read = (base: string, head: string): string =>
    `${wgsl.readRows(plan, "q", "q", base, "highest", "HEADS", head)}
    ${wgsl.readRows(plan, "o", "d_out", base, "highest", "HEADS", head)}
    if (index < ${columns}u) {
      let at = min(${base} + index, highest) * HEADS + ${head};
      statistics = vec2<f32>(lse[at] * LOG2E, delta[at]);
    }`;
  const code = `${INPUTS}
${when(ofKeys, "@group(0) @binding(7) var<storage, read_write> d_k: array<vec4<u32>>;")}
${when(ofValues, `@group(0) @binding(${ofKeys ? 8 : 7}) var<storage, read_write> d_v: array<vec4<u32>>;`)}
${when(spilled, "@group(0) @binding(9) var<storage, read_write> spill: array<vec2<u32>>;")}
${wgsl.declarations(plan, ["queries", "d_outs"], ofKeys ? ["scores", "d_weights"] : ["scores"], [...(ofKeys ? ["gradients"] : []), ...(ofValues ? ["weights"] : [])])}
// lse and delta of the passing queries.
var<workgroup> passing_lse: array<f32, ${columns}>;
var<workgroup> passing_delta: array<f32, ${columns}>;
${wgsl.scoreFunctions(capped)}

@compute @workgroup_size(${threads})
${wgsl.ENTRY}
  let group = group_index(wg, count);
  let kv_heads = ${spilled ? "params.kv_count" : "KV_HEADS"};
  if (group >= params.tiles * kv_heads) { return; }
  let kv_head = group % kv_heads${spilled ? " + params.kv_first" : ""};
  let first = group / kv_heads * ${plan.tileRows}u; // in a sample, the keys that most queries see come first
  let last = min(first + ${plan.tileRows}u, params.rows) - 1u;
  // The last query that sees a key of the tile; last + window may pass 2^32.
  let end = segments[last].y - 1u;
  let highest = select(last + params.window - 1u, end, end - last < params.window);
  ${wgsl.place(plan)}
  ${wgsl.lanePlace(plan)}
  let span = min(segments[row].y - row, params.window); // queries that see the key
  ${when(
    spilled,
    `// A row that stands twice, in a tile moved up to end with the batch, leaves zeros in the place of one past the end.
  let own_wanted = first + own_block * ${SIDE}u;
  let spill_at = (own_block * ${SIDE}u + ((row - own_wanted) & ${SIDE - 1}u)) * ${SIDE / 4}u + share;`,
  )}

  ${wgsl.heldRows(plan, ofKeys ? HELD_KEYS : HELD_KEYS.slice(0, 1), "KV_HEADS", kvHead)}
  ${when(ofKeys, wgsl.accumulators(plan, "gk"))}
  ${when(ofValues, wgsl.accumulators(plan, "gv"))}
  ${wgsl.rowRegisters(plan, "q")}
  ${wgsl.rowRegisters(plan, "o")}
  var statistics: vec2<f32>;
  var head = kv_head * GROUP;
  var base = first;
  ${prefetch ? read("base", "head") : ""}

  let steps = (highest - first) / ${columns}u + 1u;
  for (var step = 0u; step < steps * GROUP; step++) {
    ${prefetch ? "" : read("base", "head")}
    workgroupBarrier();
    ${wgsl.keepRows(plan, "q", "queries")}
    ${wgsl.keepRows(plan, "o", "d_outs")}
    if (index < ${columns}u) { passing_lse[index] = statistics.x; passing_delta[index] = statistics.y; }
    workgroupBarrier();
    let current = base;
    ${when(spilled, `let spill_tile = (((head - params.kv_first * GROUP) * params.tiles + group / kv_heads) * params.blocks + (base - first) / ${SIDE}u) * ${(tileRows * SIDE) / 4}u;`)}
    base += ${columns}u;
    if (base > highest) { base = first; head = min(head + 1u, HEADS - 1u); }
    ${prefetch ? read("base", "head") : ""}
    ${wgsl.products(plan, "k", "queries", "scores")}
    ${when(ofKeys, wgsl.products(plan, "v", "d_outs", "d_weights"))}
    workgroupBarrier();
    ${lines(
      quads,
      (i) => `{
    let column = ${wgsl.columnOf(plan, i)};
    let seen = (vec4<u32>(0u, 1u, 2u, 3u) + (current + column - row)) < vec4<u32>(span);
    let squashed = squash(${wgsl.quadOf(plan, "scores", i)});
    let their_lse = vec4<f32>(passing_lse[column], passing_lse[column + 1u], passing_lse[column + 2u], passing_lse[column + 3u]);
    let weight = select(vec4<f32>(0.0), exp2(squashed * params.outer - their_lse), seen);
    ${when(ofValues, wgsl.keepQuad(plan, "weights", i, "weight"))}
    ${when(
      ofKeys,
      `let their_delta = vec4<f32>(passing_delta[column], passing_delta[column + 1u], passing_delta[column + 2u], passing_delta[column + 3u]);
    let gradient = weight * (${wgsl.quadOf(plan, "d_weights", i)} - their_delta) * slope(squashed);
    ${wgsl.keepQuad(plan, "gradients", i, "gradient")}`,
    )}
    ${when(
      spilled,
      `spill[spill_tile + spill_at + ${i * sharers}u] = select(vec2<u32>(0u), vec2<u32>(pack2x16float(gradient.xy), pack2x16float(gradient.zw)), row >= own_wanted);`,
    )}
    }`,
    )}
    workgroupBarrier();
    ${when(ofValues, wgsl.accumulateRows(plan, "weights", "d_outs", "gv"))}
    ${when(ofKeys, wgsl.accumulateRows(plan, "gradients", "queries", "gk"))}
  }
  ${when(
    ofKeys,
    wgsl.writeRows(plan, "gk", "scores", "d_k", "KV_HEADS", kvHead, () => "params.scale"),
  )}
  ${when(
    ofValues,
    wgsl.writeRows(plan, "gv", "scores", "d_v", "KV_HEADS", kvHead, () => "1.0"),
  )}
}
`;
  const writes = { both: 2, keys: 1, values: 1, spilled: 3 }[wanted];
  const uniforms = spilled ? { ...wgsl.MATRIX_UNIFORMS, ...SPILL_UNIFORMS } : wgsl.MATRIX_UNIFORMS;
  const bindings = [...READS, ...Array.from({ length: writes }, () => "write" as const)];
  return { code, bindings, uniforms, ...MATRIX_DIRECTIVES };
}
