/** Numbers of a row beside its label: the probability of each class, and how much the row counts. */
import { DataError } from "../../core/errors.ts";
import type { DataRecord, DataSource } from "../../core/plugin/data-format.ts";

/** Probabilities of a row may miss 1 by so much: files are often rounded. */
const SUM_TOLERANCE = 1e-3;

/** A column's number; NaN where it holds anything else. */
function numberOf(record: DataRecord, column: string): number {
  const value = record.value(column);
  if (typeof value === "number") return value;
  return typeof value === "string" && value.trim() !== "" ? Number(value) : Number.NaN;
}

/** @throws DataError naming a column that the file lacks */
function requireOwn({ file, columns }: DataSource, column: string, hint: string): void {
  if (columns.includes(column)) return;
  const message = `column ${column} is missing; found ${columns.join(", ")}`;
  throw new DataError("DATA_COLUMN_MISSING", message, { file, line: 1 }, { hint });
}

const shown = (record: DataRecord, column: string): string => {
  const value = record.value(column);
  return typeof value === "bigint" ? String(value) : (JSON.stringify(value) ?? "nothing");
};

/**
 * Reads the class probabilities of `columns`, normalized to a sum of 1.
 * @throws DataError with file and line
 */
export function softLabelReader(source: DataSource, columns: readonly string[]): (record: DataRecord) => number[] {
  const { file } = source;
  const hint =
    "softLabelColumns names the columns that hold the probability of each class, in the order of the classes.";
  for (const column of columns) requireOwn(source, column, hint);
  return (record) => {
    const { line } = record;
    const values = columns.map((column) => {
      const value = numberOf(record, column);
      if (value >= 0 && value <= 1) return value;
      const message = `column ${column}: expected a probability, got ${shown(record, column)}`;
      throw new DataError("DATA_LABEL_INVALID", message, { file, line });
    });
    const sum = values.reduce((total, value) => total + value, 0);
    if (Math.abs(sum - 1) <= SUM_TOLERANCE) return values.map((value) => value / sum);
    throw new DataError("DATA_LABEL_INVALID", `expected soft labels that sum to 1, got ${sum}`, { file, line });
  };
}

/** Reads how much a row counts in the loss. @throws DataError with file and line */
export function weightReader(source: DataSource, column: string): (record: DataRecord) => number {
  requireOwn(source, column, "weightColumn names the column that says how much a row counts in the loss.");
  return (record) => {
    const weight = numberOf(record, column);
    if (weight >= 0 && weight < Infinity) return weight;
    const message = `column ${column}: expected a weight of at least 0, got ${shown(record, column)}`;
    throw new DataError("DATA_WEIGHT_INVALID", message, { file: source.file, line: record.line });
  };
}
