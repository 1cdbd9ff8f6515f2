/** Test-time augmentation of arena rows: predict a second time with A and B exchanged, and average. */
import { DataError } from "../core/errors.ts";
import type { ProbabilityRow } from "./probabilities.ts";

/**
 * Mean of the probabilities of rows and of the same rows with A and B exchanged, whose first two columns are flipped
 * back first. Rows are joined by id, so that neither list need be in the order of the other; the result has that of `plain`.
 * @throws DataError where a row has no partner
 */
export function averageSwapped(
  plain: readonly ProbabilityRow[],
  swapped: readonly ProbabilityRow[],
  file: string,
): ProbabilityRow[] {
  const partners = new Map(swapped.map((row) => [row.id, row.values]));
  if (partners.size !== plain.length) {
    const message = `expected a swapped prediction for each of ${plain.length} rows, got ${partners.size} ids`;
    throw new DataError("TTA_ROWS_DIFFER", message, { file });
  }
  return plain.map(({ id, values }) => {
    const partner = partners.get(id);
    if (partner === undefined)
      throw new DataError("TTA_ROWS_DIFFER", `row ${JSON.stringify(id)} has no swapped prediction`, { file });
    const [b, a, ...rest] = partner;
    return { id, values: [a!, b!, ...rest].map((value, i) => (values[i]! + value) / 2) };
  });
}
