import type { KernelSpec } from "../../core/device/kernel.ts";
import { lines, MATRIX_DIRECTIVES } from "../matmul-matrix/subgroup-tile.ts";
import * as wgsl from "./matrix-parts.ts";
import { type MatrixPlan, SIDE } from "./matrix-plan.ts";

/**
 * Rows keep a reference close to their maximum score; it moves only when a score exceeds it by this much (in units of
 * ln 2), because moving it means to scale the accumulators by row, which only workgroup memory can do. Weights are
 * then at most 2^15, which f16 holds; their sum is f32.
 */
const SLACK = 15;
/** A reference is set so far above the maximum that it is taken from: the largest weight is then 2^-5, and the row has so much
 * further to go before it must move again. What f16 loses of small weights by it is below 2^-19 of the largest. */
const HEADROOM = 5;

/**
 * out and lse of a tile of queries. A step computes the scores of the next keys while it turns those of the last ones
 * into weights, so that matrix units and the others have work at once, and passes two barriers:
 *
 *     scores of the next keys; weights of these keys        (reads keys; scores of these keys are in registers)
 *     barrier
 *     out += weights * values; keys after the next          (reads weights and values, takes up the next scores)
 *     barrier
 *     values of the next keys
 *
 * Bindings: q, k, v, segments, out, lse.
 */
export function matrixForward(plan: MatrixPlan, capped: boolean): KernelSpec {
  const { quads, packed, threads, teams, teamRows, rowBlocks, depth, scoreStride, columns } = plan;
  const head = (b: number): string => `(head + block${b} % ${packed}u)`;
  const read = (name: string, array: string, base: string): string =>
    wgsl.readRows(plan, name, array, base, "last", "KV_HEADS", "kv_head");
  const region = `warp * ${teamRows * scoreStride}u`;
  const take = lines(quads, (i) => `x${i} = ${wgsl.quadOf(plan, "scores", i)};`);
  // The next scores lie there until every lane of the team has its own.
  const rescale = `workgroupBarrier();
  ${lines(
    rowBlocks,
    (b) => `{
    let factor = factors[team * ${teamRows}u + ${b * SIDE}u + lane / 2u];
    let at = ${region} + lane / 2u * ${scoreStride}u + lane % 2u * 2u;
    ${lines(
      depth,
      (d) => `subgroupMatrixStore<row_major>(&scores, ${region}, o${b}_${d}, ${scoreStride}u);
    workgroupBarrier();
    scores[at] = bitcast<vec4<u32>>(bitcast<vec4<f32>>(scores[at]) * factor);
    scores[at + 1u] = bitcast<vec4<u32>>(bitcast<vec4<f32>>(scores[at + 1u]) * factor);
    workgroupBarrier();
    o${b}_${d} = subgroupMatrixLoad<${wgsl.RESULT}, row_major>(&scores, ${region}, ${scoreStride}u);
    workgroupBarrier();`,
    )}
    }`,
  )}`;
  const code = `@group(0) @binding(0) var<storage, read> q: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read> k: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> v: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read> segments: array<vec2<u32>>;
@group(0) @binding(4) var<storage, read_write> out: array<vec4<u32>>;
@group(0) @binding(5) var<storage, read_write> lse: array<f32>;
${wgsl.declarations(plan, ["keys", "values"], ["scores"], ["weights"])}
// By row of the tile: what its accumulators are to be multiplied with.
var<workgroup> factors: array<f32, ${teams * teamRows}>;
var<workgroup> moved: u32;
${wgsl.scoreFunctions(capped)}

@compute @workgroup_size(${threads})
${wgsl.ENTRY}
  let group = group_index(wg, count);
  if (group >= params.tiles * ${plan.heads / packed}u) { return; }
  let head = group % ${plan.heads / packed}u * ${packed}u;
  let kv_head = head / GROUP;
  let first = (params.tiles - 1u - group / ${plan.heads / packed}u) * ${plan.tileRows}u; // the longest rows first
  let last = min(first + ${plan.tileRows}u, params.rows) - 1u;
  let lowest = max(segments[first].x, first - min(first, params.window - 1u));
  ${wgsl.place(plan)}
  ${wgsl.lanePlace(plan)}
  let low = max(segments[row].x, row - min(row, params.window - 1u));

  ${wgsl.heldRows(plan, [{ name: "q", array: "q", sums: "scores" }], "HEADS", head)}
  ${wgsl.accumulators(plan, "o")}
  var reference = -1e30;
  var sum = 0.0;
  ${wgsl.rowRegisters(plan, "k")}
  ${wgsl.rowRegisters(plan, "v")}
  ${lines(quads, (i) => `var x${i}: vec4<f32>;`)}

  ${read("k", "k", "lowest")}
  ${read("v", "v", "lowest")}
  ${wgsl.keepRows(plan, "k", "keys")}
  ${read("k", "k", `lowest + ${columns}u`)}
  workgroupBarrier();
  ${wgsl.products(plan, "q", "keys", "scores")}
  workgroupBarrier();
  ${take}
  ${wgsl.keepRows(plan, "k", "keys")}
  ${wgsl.keepRows(plan, "v", "values")}
  ${read("k", "k", `lowest + ${2 * columns}u`)}
  ${read("v", "v", `lowest + ${columns}u`)}
  if (index == 0u) { moved = 0u; }
  workgroupBarrier();

  for (var base = lowest; base <= last; base += ${columns}u) {
    if (base + ${columns}u <= last) {
    ${wgsl.products(plan, "q", "keys", "scores")}
    }

    var top = -1e30;
    ${lines(
      quads,
      (
        i,
      ) => `let seen${i} = (vec4<u32>(0u, 1u, 2u, 3u) + (base + ${wgsl.columnOf(plan, i)} - low)) <= vec4<u32>(row - low);
    x${i} = select(vec4<f32>(-1e30), squash(x${i}) * params.outer, seen${i});
    top = max(top, max(max(x${i}.x, x${i}.y), max(x${i}.z, x${i}.w)));`,
    )}
    ${wgsl.shared(plan, "top", (a, b) => `max(${a}, ${b})`)}
    var factor = 1.0;
    if (top > reference + ${SLACK}.0) {
      // A row that has seen no key yet has nothing to rescale.
      if (reference > -1e29) { moved = 1u; }
      factor = exp2(reference - top - ${HEADROOM}.0);
      reference = top + ${HEADROOM}.0;
    }
    if (share == 0u) { factors[team * ${teamRows}u + local] = factor; }
    sum *= factor;
    ${lines(
      quads,
      (i) => `let p${i} = select(vec4<f32>(0.0), exp2(x${i} - reference), seen${i});
    sum += p${i}.x + p${i}.y + p${i}.z + p${i}.w;
    ${wgsl.keepQuad(plan, "weights", i, `p${i}`)}`,
    )}
    let rescaled = workgroupUniformLoad(&moved) != 0u; // the first barrier
    ${take}
    if (rescaled) {
    ${rescale}
    }
    ${wgsl.accumulateRows(plan, "weights", "values", "o")}
    ${wgsl.keepRows(plan, "k", "keys")}
    ${read("k", "k", `base + ${3 * columns}u`)}
    if (index == 0u) { moved = 0u; }
    workgroupBarrier();
    ${wgsl.keepRows(plan, "v", "values")}
    ${read("v", "v", `base + ${2 * columns}u`)}
  }

  ${wgsl.shared(plan, "sum", (a, b) => `${a} + ${b}`)}
  if (share == 0u) {
    factors[team * ${teamRows}u + local] = 1.0 / sum;
    if (row >= first + own_block / ${packed}u * ${SIDE}u) {
      lse[row * HEADS + head + own_block % ${packed}u] = (reference + log2(sum)) * ${Math.LN2};
    }
  }
  workgroupBarrier();
  ${wgsl.writeRows(plan, "o", "scores", "out", "HEADS", head, (b) => `factors[team * ${teamRows}u + ${b * SIDE}u + r]`)}
}
`;
  return {
    code,
    bindings: ["read", "read", "read", "read", "write", "write"],
    uniforms: wgsl.MATRIX_UNIFORMS,
    ...MATRIX_DIRECTIVES,
  };
}
