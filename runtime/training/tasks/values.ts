/** What regression and multi-label rows share: a number for each output of the head. */
import { DataError } from "../../../core/errors.ts";
import type { Dataset } from "../../data/dataset.ts";
import type { DataRow } from "../../data/formats/index.ts";
import type { TaskLoss } from "./task.ts";

/** As many outputs as every row has values. @throws DataError for a dataset with more or fewer */
export function countValues(datasets: readonly Dataset[]): number {
  const width = datasets[0]!.rows[0]!.values!.length;
  for (const { rows } of datasets) requireValues(rows, width);
  return width;
}

/** @throws DataError for a row that has not `width` values */
export function requireValues(rows: readonly DataRow[], width: number): void {
  const odd = rows.find(({ values }) => values !== undefined && values.length !== width);
  if (odd === undefined) return;
  throw new DataError("DATA_LABEL_INVALID", `got ${odd.values!.length} values, expected ${width}`, odd, {
    hint: "A row has one value for each output of the model: see --label-columns.",
  });
}

/** [rows * numLabels] the values of rows, row-major. */
export const valuesOf = (rows: readonly DataRow[]): number[] => rows.flatMap(({ values }) => values!);

/** A loss of logits [B,L] and values [B,L]. @param rows the training rows; samples name them by index */
export function valuesLoss(rows: readonly DataRow[], record: TaskLoss["record"]): TaskLoss {
  return {
    rows: 1,
    shape: (count, numLabels) => [count, numLabels],
    values: (samples) => Float32Array.from(valuesOf(samples.map(({ index }) => rows[index]!))),
    record,
  };
}
