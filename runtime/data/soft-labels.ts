import { DataError } from "../../core/errors.ts";
import type { CsvFile } from "./csv.ts";
import type { ReadRow } from "./formats/format.ts";
import type { DataRow } from "./formats/index.ts";

/** Probabilities of a row may miss 1 by so much: files are often rounded. */
const SUM_TOLERANCE = 1e-3;

/**
 * Rows with the class probabilities of `columns`, normalized to a sum of 1. A row without a label gets the likeliest class.
 * @param rows all rows of `csv`, in order
 * @throws DataError with file and line
 */
export function withSoftLabels(
  csv: CsvFile,
  rows: readonly ReadRow<DataRow>[],
  columns: readonly string[],
): ReadRow<DataRow>[] {
  const { file } = csv;
  const places = columns.map((name) => {
    const column = csv.column(name);
    if (column !== undefined) return column;
    throw new DataError(
      "DATA_COLUMN_MISSING",
      `column ${name} is missing; found ${csv.header.join(", ")}`,
      { file, line: 1 },
      {
        hint: "softLabelColumns names the columns that hold the probability of each class, in the order of the classes.",
      },
    );
  });
  const soft = csv.map((cells, line) => {
    const values = places.map((column, i) => {
      const value = cells[column]!.trim() === "" ? Number.NaN : Number(cells[column]);
      if (value >= 0 && value <= 1) return value;
      const message = `column ${columns[i]}: expected a probability, got ${JSON.stringify(cells[column])}`;
      throw new DataError("DATA_LABEL_INVALID", message, { file, line });
    });
    const sum = values.reduce((total, value) => total + value, 0);
    if (Math.abs(sum - 1) <= SUM_TOLERANCE) return values.map((value) => value / sum);
    throw new DataError("DATA_LABEL_INVALID", `expected soft labels that sum to 1, got ${sum}`, { file, line });
  });
  return rows.map((row, i) => {
    const values = soft[i]!;
    return { ...row, soft: values, label: row.label ?? values.indexOf(Math.max(...values)) };
  });
}
