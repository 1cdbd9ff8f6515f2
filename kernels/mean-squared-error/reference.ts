/** outputs [B,L], targets [B,L] -> losses [B]: the mean of the squared errors, in f64. */
export function meanSquaredErrorReference(
  outputs: ArrayLike<number>,
  targets: ArrayLike<number>,
  labels: number,
): Float64Array {
  const losses = new Float64Array(outputs.length / labels);
  for (let i = 0; i < outputs.length; i++) losses[Math.floor(i / labels)]! += (outputs[i]! - targets[i]!) ** 2 / labels;
  return losses;
}

/** Gradient of `meanSquaredErrorReference` for dLosses [B]. */
export function meanSquaredErrorBackwardReference(
  outputs: ArrayLike<number>,
  targets: ArrayLike<number>,
  labels: number,
  dLosses: ArrayLike<number>,
): Float64Array {
  return Float64Array.from(
    { length: outputs.length },
    (_, i) => ((2 * (outputs[i]! - targets[i]!)) / labels) * dLosses[Math.floor(i / labels)]!,
  );
}
