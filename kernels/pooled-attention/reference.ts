import { attentionBackwardReference, attentionReference, type ReferenceOptions } from "../attention/reference.ts";

/** Options of `attentionReference`, and the last row of each sample. */
export type PooledReferenceOptions = ReferenceOptions & { readonly lastTokens: readonly number[] };

/** Rows of last tokens [B,columns] among zeros [N,columns]. */
function spread(some: ArrayLike<number>, { lastTokens, segments }: PooledReferenceOptions): Float64Array {
  const columns = some.length / lastTokens.length;
  const all = new Float64Array((segments.length / 2) * columns);
  lastTokens.forEach((row, b) => {
    for (let c = 0; c < columns; c++) all[row * columns + c] = some[b * columns + c]!;
  });
  return all;
}

function picked(all: Float64Array, { lastTokens, segments }: PooledReferenceOptions): Float64Array {
  const columns = all.length / (segments.length / 2);
  return Float64Array.from(
    { length: lastTokens.length * columns },
    (_, i) => all[lastTokens[Math.floor(i / columns)]! * columns + (i % columns)]!,
  );
}

/** Attention of each sample's last row in f64: q [B,H*D], k and v [N,K*D] -> [B,H*D]. */
export function pooledAttentionReference(
  q: ArrayLike<number>,
  k: ArrayLike<number>,
  v: ArrayLike<number>,
  options: PooledReferenceOptions,
): Float64Array {
  return picked(attentionReference(spread(q, options), k, v, options).out, options);
}

/** Its gradients: dQ [B,H*D], dK and dV [N,K*D]. */
export function pooledAttentionBackwardReference(
  q: ArrayLike<number>,
  k: ArrayLike<number>,
  v: ArrayLike<number>,
  dOut: ArrayLike<number>,
  options: PooledReferenceOptions,
): { dQ: Float64Array; dK: Float64Array; dV: Float64Array } {
  const { dQ, dK, dV } = attentionBackwardReference(spread(q, options), k, v, spread(dOut, options), options);
  return { dQ: picked(dQ, options), dK, dV };
}
