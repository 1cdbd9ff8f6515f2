/** WGSL text for reductions over a workgroup. */

/**
 * Invocations for a row of `items`: one subgroup's worth until a lane would have more than eight items, then 256.
 * Small workgroups cost least where rows are short, and reduce in one step.
 */
export function lanesFor(items: number): number {
  return items <= 256 ? 32 : 256;
}

// Few barriers in straight line: software drivers compile barriers in loops very slowly.
function reduction(name: string, lanes: number, join: string): string {
  const store = `  workgroupBarrier();\n  partial[lane] = value;\n  workgroupBarrier();\n`;
  const fold = (first: string, end: string, step: string): string =>
    `  var total = partial[${first}];\n  for (var i = ${first} + ${step}; i < ${end}; i += ${step}) { let other = partial[i]; total = ${join}; }\n`;
  const narrow =
    lanes <= 32
      ? ""
      : `  if (lane < 32u) {\n${fold("lane", `${lanes}u`, "32u")}    partial[lane] = total;\n  }\n  workgroupBarrier();\n`;
  return `fn ${name}(value: f32, lane: u32) -> f32 {\n${store}${narrow}${fold("0u", "32u", "1u")}  return total;\n}\n`;
}

/**
 * `workgroup_sum(value, lane)` and `workgroup_max(value, lane)` over `lanes` (32 or 256) invocations, declared
 * as `const LANES`: the same result in every lane, always joined in the same order. Every lane must call.
 */
export function reduceSource(lanes: number): string {
  return [
    `const LANES = ${lanes}u;`,
    "var<workgroup> partial: array<f32, LANES>;",
    reduction("workgroup_sum", lanes, "total + other"),
    reduction("workgroup_max", lanes, "max(total, other)"),
  ].join("\n");
}
