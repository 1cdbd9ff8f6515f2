/** What the predictions of an evaluation say: confusion, calibration, classes, lengths. Plain numbers, f64. */
import type { EvaluationRecord } from "../folder/evaluation-record.ts";

/** One class of an evaluation. */
export interface ClassFigures {
  /** Rows whose label it is. */
  readonly rows: number;
  /** Rows for which it is the likeliest class. */
  readonly predicted: number;
  readonly correct: number;
  /** Its probability, averaged over all rows; a calibrated model's equals the share of its rows. */
  readonly meanProbability: number;
  /** Log loss over its rows; NaN without any. */
  readonly logLoss: number;
}

/** Rows whose likeliest class has a probability in [from, to). */
export interface ReliabilityBin {
  readonly from: number;
  readonly to: number;
  readonly count: number;
  readonly correct: number;
  /** Mean probability of the likeliest class; NaN in an empty bin. */
  readonly confidence: number;
}

/** A histogram with equal bins; bin i counts lengths in (from, to]. */
export interface LengthHistogram {
  readonly bins: readonly { readonly from: number; readonly to: number; readonly count: number }[];
  /** Lengths beyond the last bin. */
  readonly beyond: number;
  readonly upper: number;
}

/** The likeliest class of each row; the first of equals. */
export function predictionsOf({ probabilities }: EvaluationRecord): number[] {
  return probabilities.map((row) => row.reduce((best, p, i) => (p > row[best]! ? i : best), 0));
}

/** [true class][predicted class] counts. */
export function confusionMatrix(record: EvaluationRecord): number[][] {
  const matrix = Array.from({ length: record.numLabels }, () => new Array<number>(record.numLabels).fill(0));
  predictionsOf(record).forEach((prediction, i) => matrix[record.labels[i]!]![prediction]!++);
  return matrix;
}

/** -ln of each row's probability of its label, clipped at f64's epsilon as scikit-learn's log_loss does. */
export function rowLosses({ labels, probabilities }: EvaluationRecord): number[] {
  return labels.map((label, i) => -Math.log(Math.max(probabilities[i]![label]!, Number.EPSILON)));
}

/** Mean of `values` and its standard error; NaN where there are too few. */
export function meanAndError(values: readonly number[]): { readonly mean: number; readonly error: number } {
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  const squares = values.reduce((sum, value) => sum + (value - mean) ** 2, 0);
  return { mean, error: Math.sqrt(squares / (values.length - 1) / values.length) };
}

/** Figures of every class, in order. */
export function classFigures(record: EvaluationRecord): ClassFigures[] {
  const matrix = confusionMatrix(record);
  const losses = rowLosses(record);
  return matrix.map((row, label) => ({
    rows: row.reduce((sum, count) => sum + count, 0),
    predicted: matrix.reduce((sum, other) => sum + other[label]!, 0),
    correct: row[label]!,
    meanProbability: record.probabilities.reduce((sum, p) => sum + p[label]!, 0) / record.probabilities.length,
    logLoss: meanAndError(losses.filter((_, i) => record.labels[i] === label)).mean,
  }));
}

/** Equal bins of the likeliest class's probability over [0, 1]. Source: Guo et al. 2017, arXiv:1706.04599. */
export function reliabilityBins(record: EvaluationRecord, count = 10): ReliabilityBin[] {
  const sums = Array.from({ length: count }, () => ({ rows: 0, correct: 0, confidence: 0 }));
  predictionsOf(record).forEach((prediction, i) => {
    const confidence = record.probabilities[i]![prediction]!;
    const bin = sums[Math.min(count - 1, Math.floor(confidence * count))]!;
    bin.rows++;
    bin.confidence += confidence;
    if (prediction === record.labels[i]) bin.correct++;
  });
  return sums.map((bin, i) => ({
    from: i / count,
    to: (i + 1) / count,
    count: bin.rows,
    correct: bin.correct,
    confidence: bin.confidence / bin.rows,
  }));
}

/** Expected calibration error: |accuracy - confidence| of the bins, averaged over the rows. Source: as above. */
export function expectedCalibrationError(bins: readonly ReliabilityBin[]): number {
  const rows = bins.reduce((sum, bin) => sum + bin.count, 0);
  const filled = bins.filter((bin) => bin.count > 0);
  return filled.reduce((sum, bin) => sum + Math.abs(bin.correct - bin.confidence * bin.count), 0) / rows;
}

/** Wilson's 95 % interval of a share. Source: Wilson 1927, doi:10.1080/01621459.1927.10502953. */
export function wilsonInterval(correct: number, count: number): readonly [number, number] {
  const z = 1.959964;
  const share = correct / count;
  const denominator = 1 + z ** 2 / count;
  const centre = (share + z ** 2 / (2 * count)) / denominator;
  const half = (z / denominator) * Math.sqrt((share * (1 - share)) / count + z ** 2 / (4 * count ** 2));
  return [Math.max(0, centre - half), Math.min(1, centre + half)];
}

/** Bins whose edges fall on `maxLength`; a long tail is counted in `beyond`. */
export function lengthHistogram(lengths: readonly number[], maxLength: number | undefined): LengthHistogram {
  const sorted = [...lengths].sort((a, b) => a - b);
  const longest = Math.max(1, sorted.at(-1) ?? 1);
  const usual = sorted[Math.floor(0.99 * (sorted.length - 1))] ?? longest;
  const wanted = Math.max(longest > 2 * usual ? usual * 1.25 : longest, Math.min(maxLength ?? 0, longest * 1.5));
  const width = niceWidth(wanted / 36);
  const anchor = maxLength ?? 0;
  const rest = anchor % width;
  const start = rest === 0 ? 0 : rest - width;
  const upper = start + Math.ceil((wanted - start) / width) * width;
  const bins = Array.from({ length: Math.round((upper - start) / width) }, (_, i) => ({
    from: Math.max(0, start + i * width),
    to: start + (i + 1) * width,
    count: 0,
  }));
  let beyond = 0;
  for (const length of lengths) {
    if (length > upper) beyond++;
    else bins[Math.max(0, Math.ceil((length - start) / width) - 1)]!.count++;
  }
  return { bins, beyond, upper };
}

function niceWidth(rough: number): number {
  const power = 10 ** Math.max(0, Math.floor(Math.log10(Math.max(1, rough))));
  return [1, 2, 4, 5, 8, 10].map((factor) => factor * power).find((width) => width >= rough) ?? 10 * power;
}
