import type { AttentionOptions } from "./options.ts";

/** What the reference needs to know; `segments` as numbers. */
export type ReferenceOptions = Omit<AttentionOptions, "segments" | "maxSeqlen"> & {
  /** [2N]: first row of each row's sample, row after its last. */
  readonly segments: ArrayLike<number>;
};

interface Row {
  /** First key that the row sees; the last is the row itself. */
  readonly first: number;
  /** Capped scores of the keys first … row. */
  readonly scores: Float64Array;
  readonly weights: Float64Array;
  readonly lse: number;
}

function dot(a: ArrayLike<number>, at: number, b: ArrayLike<number>, bt: number, n: number): number {
  let sum = 0;
  for (let d = 0; d < n; d++) sum += a[at + d]! * b[bt + d]!;
  return sum;
}

function rowOf(q: ArrayLike<number>, k: ArrayLike<number>, row: number, head: number, o: ReferenceOptions): Row {
  const { heads, kvHeads, headDim: D, scale, softcap, window } = o;
  const kv = Math.floor(head / (heads / kvHeads));
  const first = Math.max(o.segments[2 * row]!, window === 0 ? 0 : row - window + 1);
  const scores = new Float64Array(row - first + 1);
  for (let j = first; j <= row; j++) {
    const score = dot(q, (row * heads + head) * D, k, (j * kvHeads + kv) * D, D) * scale;
    scores[j - first] = softcap === 0 ? score : softcap * Math.tanh(score / softcap);
  }
  const top = scores.reduce((a, b) => Math.max(a, b));
  const lse = top + Math.log(scores.reduce((sum, s) => sum + Math.exp(s - top), 0));
  return { first, scores, weights: scores.map((s) => Math.exp(s - lse)), lse };
}

/** Attention in f64: out [N,H*D] and lse [N,H]. */
export function attentionReference(
  q: ArrayLike<number>,
  k: ArrayLike<number>,
  v: ArrayLike<number>,
  options: ReferenceOptions,
): { out: Float64Array; lse: Float64Array } {
  const { heads, kvHeads, headDim: D } = options;
  const rows = options.segments.length / 2;
  const out = new Float64Array(rows * heads * D);
  const lse = new Float64Array(rows * heads);
  for (let row = 0; row < rows; row++) {
    for (let head = 0; head < heads; head++) {
      const kv = Math.floor(head / (heads / kvHeads));
      const found = rowOf(q, k, row, head, options);
      lse[row * heads + head] = found.lse;
      found.weights.forEach((weight, i) => {
        const from = ((found.first + i) * kvHeads + kv) * D;
        const to = (row * heads + head) * D;
        for (let d = 0; d < D; d++) out[to + d]! += weight * v[from + d]!;
      });
    }
  }
  return { out, lse };
}

/** Gradients of `attentionReference` by q, k and v, given that of `out`, in f64. */
export function attentionBackwardReference(
  q: ArrayLike<number>,
  k: ArrayLike<number>,
  v: ArrayLike<number>,
  dOut: ArrayLike<number>,
  options: ReferenceOptions,
): { dQ: Float64Array; dK: Float64Array; dV: Float64Array } {
  const { heads, kvHeads, headDim: D, scale, softcap } = options;
  const rows = options.segments.length / 2;
  const dQ = new Float64Array(q.length);
  const dK = new Float64Array(k.length);
  const dV = new Float64Array(v.length);
  for (let row = 0; row < rows; row++) {
    for (let head = 0; head < heads; head++) {
      const kv = Math.floor(head / (heads / kvHeads));
      const { first, scores, weights } = rowOf(q, k, row, head, options);
      const at = (row * heads + head) * D;
      const dWeights = weights.map((_, i) => dot(dOut, at, v, ((first + i) * kvHeads + kv) * D, D));
      const delta = weights.reduce((sum, weight, i) => sum + weight * dWeights[i]!, 0);
      weights.forEach((weight, i) => {
        const from = ((first + i) * kvHeads + kv) * D;
        const slope = softcap === 0 ? 1 : 1 - (scores[i]! / softcap) ** 2;
        const dProduct = weight * (dWeights[i]! - delta) * slope * scale;
        for (let d = 0; d < D; d++) {
          dQ[at + d]! += dProduct * k[from + d]!;
          dK[from + d]! += dProduct * q[at + d]!;
          dV[from + d]! += weight * dOut[at + d]!;
        }
      });
    }
  }
  return { dQ, dK, dV };
}
