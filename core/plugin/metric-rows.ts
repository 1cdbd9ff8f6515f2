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
  visit: (row: Float32Array, label: number, index: number) => void,
): void {
  if (logits.length !== labels.length * numLabels) {
    throw new RangeError(`${logits.length} logits for ${labels.length} labels of ${numLabels} classes`);
  }
  for (let b = 0; b < labels.length; b++) {
    const label = labels[b]!;
    if (!(Number.isInteger(label) && label >= 0 && label < numLabels)) {
      throw new RangeError(`row ${b}: label ${label} is no class of 0..${numLabels - 1}`);
    }
    visit(logits.subarray(b * numLabels, (b + 1) * numLabels), label, b);
  }
}

/** The first class with the highest logit, as numpy's argmax; -1 where a logit is NaN. */
export function predictedClass(row: Float32Array): number {
  let best = 0;
  for (const [i, x] of row.entries()) {
    if (Number.isNaN(x)) return -1;
    if (x > row[best]!) best = i;
  }
  return best;
}

/** How often each class was predicted for each label. */
export class ConfusionMatrix {
  readonly numLabels: number;
  readonly #counts: Float64Array;
  #rows = 0;
  #unpredicted = 0;

  constructor(numLabels: number) {
    this.numLabels = numLabels;
    this.#counts = new Float64Array(numLabels * numLabels);
  }

  /** @param logits [B, numLabels] row-major; @param labels [B]; @throws RangeError as `eachRow` does */
  add(logits: Float32Array, labels: ArrayLike<number>): void {
    eachRow(logits, labels, this.numLabels, (row, label) => {
      const predicted = predictedClass(row);
      this.#rows++;
      if (predicted < 0) this.#unpredicted++;
      else this.#counts[label * this.numLabels + predicted]!++;
    });
  }

  /** Rows of label `label` that were predicted as `predicted`. */
  count(label: number, predicted: number): number {
    return this.#counts[label * this.numLabels + predicted]!;
  }

  get rows(): number {
    return this.#rows;
  }

  /** Rows with a NaN among their logits; they are in no count. */
  get unpredicted(): number {
    return this.#unpredicted;
  }

  /** Rows of each label. */
  get labelCounts(): number[] {
    return this.#sums((i, k) => this.count(i, k));
  }

  /** Rows predicted as each class. */
  get predictedCounts(): number[] {
    return this.#sums((i, k) => this.count(k, i));
  }

  /** Rows predicted right, class by class. */
  get correctCounts(): number[] {
    return Array.from({ length: this.numLabels }, (_, i) => this.count(i, i));
  }

  #sums(at: (i: number, k: number) => number): number[] {
    const classes = Array.from({ length: this.numLabels }, (_, i) => i);
    return classes.map((i) => classes.reduce((sum, k) => sum + at(i, k), 0));
  }
}

/** -log softmax(logits)[label] in f64. */
export function negativeLogLikelihood(logits: ArrayLike<number>, label: number): number {
  let top = -Infinity;
  for (let i = 0; i < logits.length; i++) top = Math.max(top, logits[i]!);
  let sum = 0;
  for (let i = 0; i < logits.length; i++) sum += Math.exp(logits[i]! - top);
  return Math.log(sum) + top - logits[label]!;
}

/** Softmax of each row, in f64. @example softmaxRows([0, Math.log(3)], 2) // 0.25, 0.75 */
export function softmaxRows(logits: ArrayLike<number>, columns: number): Float64Array {
  const out = new Float64Array(logits.length);
  for (let start = 0; start < logits.length; start += columns) {
    let top = -Infinity;
    for (let i = 0; i < columns; i++) top = Math.max(top, logits[start + i]!);
    let sum = 0;
    for (let i = 0; i < columns; i++) sum += out[start + i] = Math.exp(logits[start + i]! - top);
    for (let i = 0; i < columns; i++) out[start + i]! /= sum;
  }
  return out;
}

/**
 * Visits the rows of logits of a task whose labels are values: the targets of a regression, or 0 and 1 for each label.
 * @param logits [B, numLabels] row-major
 * @param labels [B, numLabels] row-major
 * @throws RangeError where the sizes differ or a label is no number
 */
export function eachValueRow(
  logits: Float32Array,
  labels: ArrayLike<number>,
  numLabels: number,
  visit: (row: Float32Array, values: readonly number[]) => void,
): void {
  if (logits.length !== labels.length || logits.length % numLabels !== 0)
    throw new RangeError(`${logits.length} logits for ${labels.length} values of ${numLabels} outputs`);
  for (let start = 0; start < logits.length; start += numLabels) {
    const values = Array.from({ length: numLabels }, (_, i) => labels[start + i]!);
    const bad = values.find((value) => !Number.isFinite(value));
    if (bad !== undefined) throw new RangeError(`row ${start / numLabels}: ${bad} is no value`);
    visit(logits.subarray(start, start + numLabels), values);
  }
}
