/** How much rows count in the loss, where data.weightColumn says it. */
import { DataError } from "../../core/errors.ts";
import type { DataRow } from "../data/formats/index.ts";

/**
 * Weights whose mean over the training rows is 1, so that the mean loss over an epoch is sum(w * loss) / sum(w), as of
 * scikit-learn's sample_weight, and a step's mean stays one over its samples; undefined where no row has one.
 * @throws DataError where all are 0
 */
export function rowWeights(rows: readonly DataRow[]): ((row: DataRow) => number) | undefined {
  if (!rows.some(({ weight }) => weight !== undefined)) return undefined;
  const mean = rows.reduce((sum, { weight = 1 }) => sum + weight, 0) / rows.length;
  if (mean > 0) return ({ weight = 1 }) => weight / mean;
  throw new DataError("DATA_WEIGHT_INVALID", "weightColumn: every training row has the weight 0", rows[0]!);
}
