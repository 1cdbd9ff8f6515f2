/**
 * Visits the rows of a batch of logits with their labels, as `Metric.add` gets them.
 * @param logits [B, numLabels] row-major
 * @param labels [B]
 * @throws RangeError where the sizes differ or a label is no class
 */
export function eachRow(
  logits: Float32Array,
  labels: ArrayLike<number>,
  numLabels: number,
  visit: (row: Float32Array, label: number) => void,
): void {
  if (logits.length !== labels.length * numLabels) {
    throw new RangeError(`${logits.length} logits for ${labels.length} labels of ${numLabels} classes`);
  }
  for (let b = 0; b < labels.length; b++) {
    const label = labels[b]!;
    if (!(Number.isInteger(label) && label >= 0 && label < numLabels)) {
      throw new RangeError(`row ${b}: label ${label} is no class of 0..${numLabels - 1}`);
    }
    visit(logits.subarray(b * numLabels, (b + 1) * numLabels), label);
  }
}
