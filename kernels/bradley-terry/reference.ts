import { sigmoidReference, softplusReference } from "../binary-cross-entropy/reference.ts";

/** scores [2P], margins [P] -> losses [P]: -log sigmoid(chosen - rejected - margin) + center (chosen + rejected)^2, in f64. */
export function bradleyTerryReference(
  scores: ArrayLike<number>,
  margins: ArrayLike<number>,
  center: number,
): Float64Array {
  return Float64Array.from({ length: margins.length }, (_, p) => {
    const [chosen, rejected] = [scores[2 * p]!, scores[2 * p + 1]!];
    return softplusReference(margins[p]! - (chosen - rejected)) + center * (chosen + rejected) ** 2;
  });
}

/** Gradient of `bradleyTerryReference` for dLosses [P]. */
export function bradleyTerryBackwardReference(
  scores: ArrayLike<number>,
  margins: ArrayLike<number>,
  center: number,
  dLosses: ArrayLike<number>,
): Float64Array {
  return Float64Array.from({ length: scores.length }, (_, i) => {
    const p = Math.floor(i / 2);
    const [chosen, rejected] = [scores[2 * p]!, scores[2 * p + 1]!];
    const slope = sigmoidReference(margins[p]! - (chosen - rejected));
    return (2 * center * (chosen + rejected) + (i % 2 === 0 ? -slope : slope)) * dLosses[p]!;
  });
}
