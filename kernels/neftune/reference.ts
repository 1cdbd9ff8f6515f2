import { dropoutDraws } from "../dropout/reference.ts";
import { NEFTUNE_SITE } from "./index.ts";

/** Noise [N,C] of rows whose samples have `lengths` tokens. */
export function neftuneNoise(
  rowKeys: ArrayLike<number>,
  lengths: ArrayLike<number>,
  columns: number,
  { alpha, seed }: { readonly alpha: number; readonly seed: number },
): Float64Array {
  const noise = new Float64Array(rowKeys.length * columns);
  for (let row = 0; row < rowKeys.length; row++) {
    const magnitude = alpha / Math.sqrt(lengths[row]! * columns);
    for (let c = 0; c < columns; c += 4) {
      dropoutDraws(rowKeys[row]!, NEFTUNE_SITE, c / 4, seed).forEach((draw, k) => {
        if (c + k < columns) noise[row * columns + c + k] = ((2 * draw) / 2 ** 32 - 1) * magnitude;
      });
    }
  }
  return noise;
}
