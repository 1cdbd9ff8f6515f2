/**
 * Area under the ROC curve by the ranks of the scores (Mann and Whitney): the share of pairs of a positive and a negative
 * in which the positive has the higher score, equal scores counting half. NaN without both kinds, or for a NaN score.
 */
export function rankedAuc(scores: readonly number[], positive: readonly boolean[]): number {
  if (scores.some(Number.isNaN)) return Number.NaN;
  const order = [...scores.keys()].sort((a, b) => scores[a]! - scores[b]!);
  let positives = 0;
  let rankSum = 0;
  for (let first = 0; first < order.length;) {
    let end = first;
    let tied = 0;
    for (; end < order.length && scores[order[end]!] === scores[order[first]!]; end++)
      if (positive[order[end]!]!) tied++;
    rankSum += (tied * (first + 1 + end)) / 2; // equal scores share the mean of the ranks first + 1 .. end
    positives += tied;
    first = end;
  }
  return (rankSum - (positives * (positives + 1)) / 2) / (positives * (scores.length - positives));
}

/** Every pair of classes, the lower first. */
export function classPairs(count: number): [number, number][] {
  return Array.from({ length: count }, (_, a) =>
    Array.from({ length: count - 1 - a }, (__, k): [number, number] => [a, a + 1 + k]),
  ).flat();
}
