import type { KernelSpec } from "../../core/kernel.ts";
import { lines, MATRIX_DIRECTIVES } from "../gemm/subgroup-tile.ts";
import * as wgsl from "./matrix-parts.ts";
import { type MatrixPlan, SIDE } from "./matrix-plan.ts";

/**
 * Rows keep a reference close to their maximum score; it moves only when a score exceeds it by this much (in units of
 * ln 2), because moving it means to scale the accumulators by row, which only workgroup memory can do. Weights are
 * then at most 2^10, which f16 holds.
 */
const SLACK = 10;

/**
 * out and lse of a tile of queries. Keys and values take turns in one tile of workgroup memory.
 * Bindings: q, k, v, segments, out, lse.
 */
export function matrixForward(plan: MatrixPlan, capped: boolean): KernelSpec {
  const { quads, packed, threads, teams, teamRows, rowBlocks, depth, scoreStride, prefetch, columns } = plan;
  const head = (b: number): string => `(head + block${b} % ${packed}u)`;
  const read = (name: string, array: string, base: string): string =>
    wgsl.readRows(plan, name, array, base, "last", "KV_HEADS", "kv_head");
  const region = `warp * ${teamRows * scoreStride}u`;
  const rescale = lines(
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
  );
  const code = `@group(0) @binding(0) var<storage, read> q: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read> k: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> v: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read> segments: array<vec2<u32>>;
@group(0) @binding(4) var<storage, read_write> out: array<vec4<u32>>;
@group(0) @binding(5) var<storage, read_write> lse: array<f32>;
${wgsl.declarations(plan, ["tile"], ["scores"], ["weights"])}
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

  ${wgsl.heldRows(plan, "q", "q", "HEADS", head)}
  ${wgsl.accumulators(plan, "o")}
  var reference = -1e30;
  var sum = 0.0;
  ${wgsl.rowRegisters(plan, "k")}
  ${wgsl.rowRegisters(plan, "v")}
  ${prefetch ? read("k", "k", "lowest") : ""}

  for (var base = lowest; base <= last; base += ${columns}u) {
    ${prefetch ? "" : read("k", "k", "base")}
    workgroupBarrier();
    ${wgsl.keepRows(plan, "k", "tile")}
    if (index == 0u) { moved = 0u; }
    workgroupBarrier();
    ${prefetch ? read("v", "v", "base") : ""}
    ${wgsl.products(plan, "q", "tile", "scores")}
    ${prefetch ? "" : read("v", "v", "base")}
    workgroupBarrier();
    ${wgsl.keepRows(plan, "v", "tile")}
    ${prefetch ? read("k", "k", `base + ${columns}u`) : ""}

    var top = -1e30;
    ${lines(
      quads,
      (
        i,
      ) => `let seen${i} = (vec4<u32>(0u, 1u, 2u, 3u) + (base + ${wgsl.columnOf(plan, i)} - low)) <= vec4<u32>(row - low);
    let x${i} = select(vec4<f32>(-1e30), squash(${wgsl.quadOf(plan, "scores", i)}) * params.outer, seen${i});
    top = max(top, max(max(x${i}.x, x${i}.y), max(x${i}.z, x${i}.w)));`,
    )}
    ${wgsl.shared(plan, "top", (a, b) => `max(${a}, ${b})`)}
    var factor = 1.0;
    if (top > reference + ${SLACK}.0) {
      // A row that has seen no key yet has nothing to rescale.
      if (reference > -1e29) { moved = 1u; }
      factor = exp2(reference - top);
      reference = top;
    }
    if (share == 0u) { factors[team * ${teamRows}u + local] = factor; }
    sum *= factor;
    ${lines(
      quads,
      (i) => `let p${i} = select(vec4<f32>(0.0), exp2(x${i} - reference), seen${i});
    sum += p${i}.x + p${i}.y + p${i}.z + p${i}.w;
    ${wgsl.keepQuad(plan, "weights", i, `p${i}`)}`,
    )}
    if (workgroupUniformLoad(&moved) != 0u) {
    ${rescale}
    }
    ${wgsl.accumulateRows(plan, "weights", "tile", "o")}
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
