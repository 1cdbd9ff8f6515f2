/** Soft labels from a file of probabilities, joined to rows by id: what teachers say of rows that they did not see. */
import { DataError } from "../../core/errors.ts";
import { openCsv } from "./csv.ts";
import type { Dataset } from "./dataset.ts";
import { fixedClasses } from "./formats/index.ts";

/** Probabilities of a row may miss 1 by so much: files are often rounded. */
const SUM_TOLERANCE = 1e-3;

/**
 * The dataset with the soft labels that `file` has for its ids; columns go by the names of the classes where these have any.
 * @throws DataError where a row has none, an id stands twice, or a line holds no probabilities
 */
export function joinSoftLabels(dataset: Dataset, file: string): Dataset {
  const { rows, labelNames } = dataset;
  const csv = openCsv(file);
  const id = csv.column("id");
  const columns = csv.header.filter((_, column) => column !== id);
  const wrong = (code: string, message: string, line = 1, hint = "Files are joined by id."): DataError =>
    new DataError(code, message, { file, line }, { hint });
  if (id === undefined) throw wrong("DATA_COLUMN_MISSING", `column id is missing; found ${csv.header.join(", ")}`);
  const names = labelNames ?? fixedClasses(rows)?.columns ?? columns;
  const order = names.map((name) => csv.header.indexOf(name));
  if (columns.length < 2 || columns.length !== order.length || order.includes(-1)) {
    const message = `columns: got ${columns.join(", ")}, expected one for each class: ${names.join(", ")}`;
    throw wrong("SOFT_LABELS_DIFFER", message);
  }
  const known = new Map<string, readonly number[]>();
  csv.map((cells, line) => {
    const [key, values] = [cells[id]!, order.map((column) => Number(cells[column]!.trim() || Number.NaN))];
    if (known.has(key)) throw wrong("DATA_ID_TWICE", `id ${JSON.stringify(key)} stands twice`, line);
    const sum = values.reduce((total, value) => total + value, 0);
    if (!values.every((value) => value >= 0 && value <= 1) || !(Math.abs(sum - 1) <= SUM_TOLERANCE)) {
      const hint = "Write them without --logits.";
      throw wrong("DATA_CELL_INVALID", `got ${values.join(", ")}, expected probabilities that sum to 1`, line, hint);
    }
    known.set(key, values);
  });
  const without = rows.filter((row) => !known.has(row.id));
  if (without.length > 0) {
    const message = `${without.length} of ${rows.length} training rows have no soft labels, the first is id ${JSON.stringify(without[0]!.id)}`;
    throw wrong("SOFT_LABELS_MISSING", message, 1, "Out-of-fold predictions of qlora cv have every row.");
  }
  return { ...dataset, rows: rows.map((row) => ({ ...row, soft: known.get(row.id)! })) };
}
