/** Test-time augmentation: predict a second time with the responses exchanged, and average. */
import { DataError } from "../../core/errors.ts";

/** Probabilities of a row, by class. */
interface Row {
  readonly id: string;
  readonly values: readonly number[];
}

/**
 * Mean of the probabilities of rows and of the same rows with their responses exchanged, whose columns are exchanged back
 * first. Rows are joined by id, so that neither list need be in the order of the other; the result has that of `plain`.
 * @param labels the class that each class becomes by the exchange
 * @throws DataError where a row has no partner
 */
export function averageSwapped(
  plain: readonly Row[],
  swapped: readonly Row[],
  labels: readonly number[],
  file: string,
): Row[] {
  const partners = new Map(swapped.map((row) => [row.id, row.values]));
  if (partners.size !== plain.length) {
    const message = `expected a swapped prediction for each of ${plain.length} rows, got ${partners.size} ids`;
    throw new DataError("TTA_ROWS_DIFFER", message, { file });
  }
  return plain.map(({ id, values }) => {
    const partner = partners.get(id);
    if (partner === undefined)
      throw new DataError("TTA_ROWS_DIFFER", `row ${JSON.stringify(id)} has no swapped prediction`, { file });
    return { id, values: values.map((value, label) => (value + partner[labels[label]!]!) / 2) };
  });
}
