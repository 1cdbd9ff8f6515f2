/** What the loss compares a row's classes with: its label, its soft labels, or a blend of both. */
import { ConfigError } from "../../core/errors.ts";
import type { DataRow } from "../data/formats/index.ts";
import { rowWeights } from "./row-weights.ts";

/** The part of the training options that the loss depends on. */
export interface TargetOptions {
  readonly classWeights?: readonly number[] | undefined;
  readonly labelSmoothingFactor: number;
  readonly softLabelWeight: number;
  readonly softLabelTemperature: number;
}

/** One term of the loss: cross entropy of softmax(logits / temperature) with `values`, whose sums need not be 1. */
export interface TargetTerm {
  /** [B, numLabels] f32, row-major; weights of the loss are part of it. */
  readonly values: Float32Array<ArrayBuffer>;
  readonly temperature: number;
}

/** Terms for the rows of a micro-batch; the same number for every batch. */
export interface Targets {
  readonly terms: number;
  of(rows: readonly DataRow[]): readonly TargetTerm[];
}

/**
 * The loss of a row is (1 - w) CE(label) + w T^2 CE(softmax(logits / T), soft^(1/T) normalized), class by class times its
 * weight; w is `softLabelWeight`, T `softLabelTemperature` (Hinton et al. 2015: T^2 keeps the gradient's size). The
 * second part has the gradient of the KL divergence. Rows without soft labels have the first part alone, whole. Of the label,
 * `labelSmoothingFactor` is spread over all classes, as transformers' LabelSmoother has it.
 * All of it counts as much as the row's weight (row-weights.ts).
 * @returns undefined where the loss is plain cross entropy with the labels
 * @throws ConfigError where the options do not fit the data
 */
export function createTargets(
  dataset: { readonly rows: readonly DataRow[] },
  {
    classWeights,
    labelSmoothingFactor: smoothing,
    softLabelWeight: weight,
    softLabelTemperature: temperature,
  }: TargetOptions,
  numLabels: number,
): Targets | undefined {
  const problems: string[] = [];
  if (classWeights !== undefined && classWeights.length !== numLabels)
    problems.push(`classWeights: got ${classWeights.length} numbers, expected one for each of ${numLabels} classes`);
  const soft = dataset.rows.find((row) => row.soft !== undefined)?.soft;
  if (soft !== undefined && soft.length !== numLabels)
    problems.push(`softLabelColumns: got ${soft.length} columns, expected one for each of ${numLabels} classes`);
  if (problems.length > 0) throw new ConfigError("TARGETS_INVALID", problems);
  const isSoft = soft !== undefined && weight > 0;
  const weightOf = rowWeights(dataset.rows);
  if (classWeights === undefined && !isSoft && smoothing === 0 && weightOf === undefined) return undefined;

  const fill = (rows: readonly DataRow[], add: (row: DataRow, out: Float32Array) => void) => {
    const values = new Float32Array(rows.length * numLabels);
    rows.forEach((row, b) => add(row, values.subarray(b * numLabels, (b + 1) * numLabels)));
    if (classWeights !== undefined) values.forEach((value, i) => (values[i] = value * classWeights[i % numLabels]!));
    if (weightOf !== undefined)
      values.forEach((value, i) => (values[i] = value * weightOf(rows[Math.floor(i / numLabels)]!)));
    return values;
  };
  const addHard = (row: DataRow, out: Float32Array): void => {
    const share = isSoft && row.soft !== undefined ? 1 - weight : 1;
    out[row.label!] = (out[row.label!] ?? 0) + share * (1 - smoothing);
    if (smoothing > 0) out.forEach((value, c) => (out[c] = value + (share * smoothing) / numLabels));
  };
  const addSoft = (row: DataRow, out: Float32Array): void => {
    if (!isSoft || row.soft === undefined) return;
    const tempered = row.soft.map((value) => value ** (1 / temperature));
    const sum = tempered.reduce((total, value) => total + value, 0);
    tempered.forEach((value, c) => (out[c]! += (weight * temperature ** 2 * value) / sum));
  };
  if (temperature === 1 || !isSoft) {
    const addBoth = (row: DataRow, out: Float32Array): void => {
      addHard(row, out);
      addSoft(row, out);
    };
    return { terms: 1, of: (rows) => [{ temperature: 1, values: fill(rows, addBoth) }] };
  }
  const of = (rows: readonly DataRow[]): TargetTerm[] => [
    { temperature: 1, values: fill(rows, addHard) },
    { temperature, values: fill(rows, addSoft) },
  ];
  return { terms: 2, of };
}
