/** evaluation.json of a task without classes: what the last evaluation gave and what it should have given, for the report. */
import { QloraError } from "../../core/errors.ts";
import { type Task, TASKS } from "../../core/plugin/task.ts";
import type { TokenizedDataset } from "../data/dataset-tokenizer.ts";
import type { Scored, TaskKind } from "../training/tasks/task.ts";

/** Rows of one evaluation, all lists in row order; of a reward model each is a pair. */
export interface OutputsRecord {
  readonly task: Exclude<Task, "classification">;
  /** Optimizer steps done. */
  readonly step: number;
  /** Numbers of a row: outputs, labels, or the two scores of a pair, the chosen answer's first. */
  readonly numLabels: number;
  /** Names of the outputs or labels, where they have any. */
  readonly labelNames?: readonly string[] | undefined;
  /** [rows][numLabels] what each should be; of a reward model empty. */
  readonly targets: readonly (readonly number[])[];
  /** [rows][numLabels] outputs, probabilities of labels, or scores. */
  readonly predictions: readonly (readonly number[])[];
}

/** What the report shows of an evaluation. */
export function outputsRecord(
  { dataset }: TokenizedDataset,
  { logits, labels, numLabels }: Scored,
  kind: TaskKind,
  step: number,
): OutputsRecord {
  const rows = (values: ArrayLike<number>): number[][] =>
    Array.from({ length: values.length / numLabels }, (_, row) =>
      Array.from({ length: numLabels }, (__, i) => values[row * numLabels + i]!),
    );
  return {
    task: kind.name as OutputsRecord["task"],
    step,
    numLabels,
    ...(dataset.labelNames && { labelNames: dataset.labelNames }),
    targets: kind.name === "reward" ? [] : rows(labels),
    predictions: rows(kind.predictions(logits, numLabels)),
  };
}

/** Whether an evaluation.json is of a task without classes. */
export const isOfOutputs = (value: Readonly<Record<string, unknown>>): boolean =>
  (value["task"] ?? undefined) !== undefined;

/** Checks the value of such an evaluation.json. @throws QloraError EVALUATION_INVALID listing what is wrong */
export function parseOutputs(value: Readonly<Record<string, unknown>>, path: string): OutputsRecord {
  const record = value as unknown as OutputsRecord;
  const problems: string[] = [];
  const expect = (right: boolean, problem: string): void => {
    if (!right) problems.push(problem);
  };
  const { task, step, numLabels, labelNames, targets, predictions } = record;
  expect(TASKS.some((known) => known === task) && value["task"] !== "classification", "task is none that has outputs");
  expect(Number.isInteger(step) && step >= 0, "step is no whole number");
  const sized = Number.isInteger(numLabels) && numLabels >= 1 && (task !== "reward" || numLabels === 2);
  expect(sized, "numLabels is no number of outputs");
  const isRow = (row: unknown): boolean =>
    Array.isArray(row) && row.length === numLabels && row.every((item) => Number.isFinite(item));
  expect(Array.isArray(predictions) && predictions.every(isRow), `predictions is no list of ${numLabels} numbers each`);
  expect(Array.isArray(targets) && targets.every(isRow), `targets is no list of ${numLabels} numbers each`);
  const rows = Array.isArray(predictions) ? predictions.length : 0;
  expect(
    targets?.length === (task === "reward" ? 0 : rows),
    `there are ${targets?.length} targets and ${rows} predictions`,
  );
  const named =
    Array.isArray(labelNames) &&
    labelNames.length === numLabels &&
    labelNames.every((name) => typeof name === "string");
  expect((labelNames ?? undefined) === undefined || named, `labelNames is no list of ${numLabels} names`);
  if (problems.length === 0) return record;
  throw new QloraError("EVALUATION_INVALID", `${path}: ${problems.join("; ")}`, {
    hint: "Evaluate again to write the file anew, or remove it to have the report without it.",
  });
}
