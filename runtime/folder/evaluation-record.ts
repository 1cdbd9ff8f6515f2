/** evaluation.json: what the last evaluation predicted, row by row, for the report's matrix and plots. */
import { QloraError } from "../../core/errors.ts";
import { softmaxRows } from "../../core/plugin/metric-rows.ts";
import type { TokenizedDataset } from "../data/dataset-tokenizer.ts";
import { fixedClasses } from "../data/formats/index.ts";

/** Name of the file in a run's folder. */
export const EVALUATION_FILE = "evaluation.json";

/** Rows of one evaluation, all lists in row order. */
export interface EvaluationRecord {
  /** Optimizer steps done. */
  readonly step: number;
  readonly numLabels: number;
  /** Names of the classes, where they have any. */
  readonly labelNames?: readonly string[] | undefined;
  /** [rows] */
  readonly labels: readonly number[];
  /** [rows][numLabels], each row summing to 1. */
  readonly probabilities: readonly (readonly number[])[];
  /** [rows] tokens of each row as the model saw it. */
  readonly lengths?: readonly number[] | undefined;
  /** [rows] tokens of each row before truncation. */
  readonly fullLengths?: readonly number[] | undefined;
  /** Most tokens of a row, where rows were cut to fit. */
  readonly maxLength?: number | undefined;
}

/** How far a row of probabilities may be from 1 in sum: rounding of f32 over a few classes. */
const SUM_TOLERANCE = 1e-3;

/**
 * Checks the value of an evaluation.json.
 * @throws QloraError EVALUATION_INVALID listing what is wrong
 */
export function parseEvaluation(value: Readonly<Record<string, unknown>>, path: string): EvaluationRecord {
  const present = Object.entries(value).filter(([, field]) => field !== null);
  const record = Object.fromEntries(present) as unknown as EvaluationRecord;
  const problems: string[] = [];
  const expect = (right: boolean, problem: string): void => {
    if (!right) problems.push(problem);
  };
  const { step, numLabels, labels, probabilities, labelNames, maxLength } = record;
  expect(isCount(step), "step is no whole number");
  expect(isCount(numLabels) && numLabels >= 2, "numLabels is no whole number of at least 2");
  const isClass = (label: unknown): boolean => isCount(label) && label < numLabels;
  expect(Array.isArray(labels) && labels.every(isClass), `labels is no list of classes below ${numLabels}`);
  const rows = Array.isArray(labels) ? labels.length : 0;
  const isRow = (row: unknown): boolean =>
    Array.isArray(row) &&
    row.length === numLabels &&
    row.every((p) => typeof p === "number" && p >= 0) &&
    Math.abs(row.reduce((sum: number, p: number) => sum + p, 0) - 1) <= SUM_TOLERANCE;
  const bad = Array.isArray(probabilities) ? probabilities.findIndex((row) => !isRow(row)) : 0;
  expect(bad < 0, `probabilities[${bad}] is no row of ${numLabels} probabilities that sum to 1`);
  expect(probabilities?.length === rows, `there are ${rows} labels and ${probabilities?.length} rows of probabilities`);
  for (const key of ["lengths", "fullLengths"] as const) {
    const list = record[key];
    if (list === undefined) continue;
    expect(
      Array.isArray(list) && list.length === rows && list.every(isCount),
      `${key} is no list of ${rows} whole numbers`,
    );
  }
  const named = Array.isArray(labelNames) && labelNames.length === numLabels && labelNames.every(isText);
  expect(labelNames === undefined || named, `labelNames is no list of ${numLabels} names`);
  expect(maxLength === undefined || isCount(maxLength), "maxLength is no whole number");
  if (problems.length === 0) return record;
  throw new QloraError("EVALUATION_INVALID", `${path}: ${problems.join("; ")}`, {
    hint: "Evaluate again to write the file anew, or remove it to have the report without it.",
  });
}

function isCount(value: unknown): value is number {
  return typeof value === "number" && Number.isInteger(value) && value >= 0;
}

function isText(value: unknown): boolean {
  return typeof value === "string";
}

/** What the report shows of an evaluation, row by row. */
export async function evaluationRecord(
  data: TokenizedDataset,
  logits: Float32Array,
  { step, numLabels, maxLength }: { readonly step: number; readonly numLabels: number; readonly maxLength: number },
): Promise<EvaluationRecord> {
  const probabilities = softmaxRows(logits, numLabels);
  const { lengths, fullLengths } = await data.done();
  const { rows } = data.dataset;
  const fixed = fixedClasses(rows);
  return {
    step,
    numLabels,
    ...(data.dataset.labelNames && { labelNames: data.dataset.labelNames }),
    ...(fixed && { labelNames: fixed.names.slice(0, numLabels) }),
    labels: rows.map((row) => row.label!),
    probabilities: rows.map((_, i) => [...probabilities.subarray(i * numLabels, (i + 1) * numLabels)]),
    lengths: [...lengths],
    fullLengths: [...fullLengths],
    maxLength,
  };
}
