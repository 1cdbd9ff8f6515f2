import { dropoutScale, dropoutThreshold } from "./generator.ts";

/** `random4`, bit for bit: u32 [4]; what `dropout_keep4` compares with the threshold. */
export function dropoutDraws(rowKey: number, site: number, column4: number, seed: number): Uint32Array {
  const v = Uint32Array.of(rowKey, site, column4, seed).map((u) => Math.imul(u, 1664525) + 1013904223);
  const round = (): void => {
    v[0]! += Math.imul(v[1]!, v[3]!);
    v[1]! += Math.imul(v[2]!, v[0]!);
    v[2]! += Math.imul(v[0]!, v[1]!);
    v[3]! += Math.imul(v[1]!, v[2]!);
  };
  round();
  for (let i = 0; i < 4; i++) v[i]! ^= v[i]! >>> 16;
  round();
  return v;
}

/** Mask [N,C] of zeros and 1 / (1 - p): what x is multiplied by, forward and backward. */
export function dropoutMask(
  rowKeys: ArrayLike<number>,
  columns: number,
  { site, seed, p }: { readonly site: number; readonly seed: number; readonly p: number },
): Float64Array {
  const mask = new Float64Array(rowKeys.length * columns);
  const threshold = dropoutThreshold(p);
  for (let row = 0; row < rowKeys.length; row++) {
    for (let c = 0; c < columns; c += 4) {
      dropoutDraws(rowKeys[row]!, site, c / 4, seed).forEach((draw, k) => {
        if (c + k < columns && draw >= threshold) mask[row * columns + c + k] = dropoutScale(p);
      });
    }
  }
  return mask;
}
