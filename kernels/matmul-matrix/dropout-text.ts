import { dropoutSource, dropoutThreshold } from "../dropout/generator.ts";

/** Dropout of one adapted linear: its place in the model and the probability. */
export interface MemberDropout {
  readonly site: number;
  readonly p: number;
}

/** Uniforms that `dropoutText` reads, for `members` linears that share an input. */
export function dropoutUniforms(members: number): Record<string, "u32"> {
  const uniforms: Record<string, "u32"> = { seed: "u32" };
  for (let i = 0; i < members; i++) {
    uniforms[`site${i}`] = "u32";
    uniforms[`threshold${i}`] = "u32";
  }
  return uniforms;
}

/** Values for them. */
export function dropoutValues(seed: number, members: readonly MemberDropout[]): Record<string, number> {
  const values: Record<string, number> = { seed };
  members.forEach(({ site, p }, i) => {
    values[`site${i}`] = site;
    values[`threshold${i}`] = dropoutThreshold(p);
  });
  return values;
}

/**
 * `fn drop8(bits, key, site, threshold, column) -> vec4<u32>`: eight f16 with the dropped ones set to zero. What is kept
 * is not scaled: 1 / (1 - p) is part of the other operand.
 */
export const DROP8 = `${dropoutSource}
fn drop8(bits: vec4<u32>, key: u32, site: u32, threshold: u32, column: u32) -> vec4<u32> {
  let first = select(vec4<u32>(0u), vec4<u32>(0xffffu), dropout_keep4(key, site, column / 4u, params.seed, threshold));
  let second = select(vec4<u32>(0u), vec4<u32>(0xffffu), dropout_keep4(key, site, column / 4u + 1u, params.seed, threshold));
  return bits & vec4<u32>(first.x | (first.y << 16u), first.z | (first.w << 16u), second.x | (second.y << 16u), second.z | (second.w << 16u));
}
`;

/**
 * Sets `site` and `threshold` for the column tile at `column`.
 * @param widths columns of each member, which lie one after another
 */
export function pickMember(widths: readonly number[], column: string): string {
  let start = 0;
  const text = ["var site = params.site0;", "var threshold = params.threshold0;"];
  widths.forEach((width, i) => {
    if (i > 0) text.push(`if (${column} >= ${start}u) { site = params.site${i}; threshold = params.threshold${i}; }`);
    start += width;
  });
  return text.join("\n  ");
}
