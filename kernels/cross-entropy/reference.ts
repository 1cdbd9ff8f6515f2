/** logits [B,L], targets [B,L] -> losses [B]: -sum(target * log softmax(logits)), in f64. */
export function crossEntropyReference(
  logits: ArrayLike<number>,
  targets: ArrayLike<number>,
  labels: number,
): Float64Array {
  return Float64Array.from({ length: logits.length / labels }, (_, b) => {
    const logSum = logSumExp(logits, labels, b);
    let loss = 0;
    for (let l = 0; l < labels; l++) loss += targets[b * labels + l]! * (logSum - logits[b * labels + l]!);
    return loss;
  });
}

/** Gradient of `crossEntropyReference` for dLosses [B]. */
export function crossEntropyBackwardReference(
  logits: ArrayLike<number>,
  targets: ArrayLike<number>,
  labels: number,
  dLosses: ArrayLike<number>,
): Float64Array {
  const dLogits = new Float64Array(logits.length);
  for (let b = 0; b < logits.length / labels; b++) {
    const logSum = logSumExp(logits, labels, b);
    let total = 0;
    for (let l = 0; l < labels; l++) total += targets[b * labels + l]!;
    for (let l = 0; l < labels; l++) {
      const i = b * labels + l;
      dLogits[i] = (Math.exp(logits[i]! - logSum) * total - targets[i]!) * dLosses[b]!;
    }
  }
  return dLogits;
}

/** [B] classes -> [B,L] with a 1 at each class. */
export function oneHot(classes: ArrayLike<number>, labels: number): Float64Array {
  return Float64Array.from({ length: classes.length * labels }, (_, i) =>
    classes[Math.floor(i / labels)] === i % labels ? 1 : 0,
  );
}

function logSumExp(logits: ArrayLike<number>, labels: number, b: number): number {
  let peak = -Infinity;
  for (let l = 0; l < labels; l++) peak = Math.max(peak, logits[b * labels + l]!);
  let sum = 0;
  for (let l = 0; l < labels; l++) sum += Math.exp(logits[b * labels + l]! - peak);
  return peak + Math.log(sum);
}
