import generatorCode from "./generator.wgsl" with { type: "text" };

/**
 * The generator that everything that drops or adds noise shares, as WGSL: `random4`, four draws of a row, and
 * `fn dropout_keep4(row_key: u32, site: u32, column4: u32, seed: u32, threshold: u32) -> vec4<bool>`, the fate of columns
 * `4 * column4 …` of a row. A mask depends on these counters alone, not on where a row lies in its batch.
 * Source: pcg4d of Jarzynski and Olano 2020 (Journal of Computer Graphics Techniques 9(3)).
 */
export const dropoutSource: string = generatorCode;

/**
 * The draw below which an element is dropped: p * 2^32, 0 for p = 0, so that nothing is.
 * @throws RangeError unless 0 <= p < 1
 */
export function dropoutThreshold(p: number): number {
  if (!(p >= 0 && p < 1)) throw new RangeError(`dropout: the probability must be in [0, 1), got ${p}`);
  return Math.min(0xffffffff, Math.round(p * 2 ** 32));
}

/** What kept elements are multiplied by: 1 / (1 - p). */
export function dropoutScale(p: number): number {
  return 1 / (1 - p);
}
