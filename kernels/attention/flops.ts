import type { KernelCost } from "../../core/device/profile.ts";
import type { AttentionOptions } from "./options.ts";

/** Products of [D] vectors that a kernel does for each visible (query, key) pair of each head. */
const PRODUCTS = { forward: 2, queries: 3, keys: 3, values: 2, keysAndValues: 4, spilledQueries: 1 } as const;

/** Work of one kernel; none where the options do not say how many pairs there are. */
export function attentionWork(
  { pairs = 0, heads, headDim }: AttentionOptions,
  part: keyof typeof PRODUCTS,
): KernelCost {
  return { flops: 2 * PRODUCTS[part] * headDim * heads * pairs };
}

/**
 * (query, key) pairs of a head that a causal layer sees.
 * @param cuSeqlens [B+1] first row of each sample, and the row after the last
 * @param window as in `AttentionOptions`
 */
export function visiblePairs(cuSeqlens: ArrayLike<number>, window: number): number {
  let pairs = 0;
  for (let b = 0; b + 1 < cuSeqlens.length; b++) {
    const rows = cuSeqlens[b + 1]! - cuSeqlens[b]!;
    const wide = window === 0 ? rows : Math.min(rows, window);
    pairs += (wide * (wide + 1)) / 2 + (rows - wide) * wide;
  }
  return pairs;
}
