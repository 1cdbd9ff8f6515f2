/** log(1 + e^x) without overflow, in f64. */
export const softplusReference = (x: number): number => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x)));

/** 1 / (1 + e^-x), in f64. */
export const sigmoidReference = (x: number): number => 1 / (1 + Math.exp(-x));

/** logits [B,L], targets [B,L] -> losses [B]: the mean of -t log sigmoid(x) - (1 - t) log(1 - sigmoid(x)), in f64. */
export function binaryCrossEntropyReference(
  logits: ArrayLike<number>,
  targets: ArrayLike<number>,
  labels: number,
): Float64Array {
  const losses = new Float64Array(logits.length / labels);
  for (let i = 0; i < logits.length; i++)
    losses[Math.floor(i / labels)]! += (softplusReference(logits[i]!) - logits[i]! * targets[i]!) / labels;
  return losses;
}

/** Gradient of `binaryCrossEntropyReference` for dLosses [B]. */
export function binaryCrossEntropyBackwardReference(
  logits: ArrayLike<number>,
  targets: ArrayLike<number>,
  labels: number,
  dLosses: ArrayLike<number>,
): Float64Array {
  return Float64Array.from(
    { length: logits.length },
    (_, i) => ((sigmoidReference(logits[i]!) - targets[i]!) / labels) * dLosses[Math.floor(i / labels)]!,
  );
}
