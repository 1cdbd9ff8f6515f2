/** Class probabilities of rows, known by their ids. */
import { DataError, QloraError } from "../core/errors.ts";
import { winnerReader } from "../runtime/data/arena.ts";
import { type CsvFile, openCsv } from "../runtime/data/csv.ts";
import type { Dataset } from "../runtime/data/dataset.ts";
import type { DataRow } from "../runtime/data/row.ts";

/** Columns of the competition's submission. */
export const ARENA_PROBABILITIES = ["winner_model_a", "winner_model_b", "winner_tie"] as const;

/** Columns of a dataset's probabilities: the names of the classes, else the competition's where rows and classes are, else `label_0`, `label_1` … */
export function probabilityColumns(
  { rows }: Dataset,
  numLabels: number,
  labelNames: readonly string[] | undefined,
): readonly string[] {
  // The first column is called id already.
  if (labelNames !== undefined) return labelNames.map((name) => (name === "id" ? "label_id" : name));
  if (numLabels === 3 && rows.some((row) => row.kind === "arena")) return ARENA_PROBABILITIES;
  return Array.from({ length: numLabels }, (_, i) => `label_${i}`);
}

/** Values of one row of data. */
export interface ProbabilityRow {
  readonly id: string;
  /** One value for each column. */
  readonly values: readonly number[];
}

/** A table of probabilities (or logits); ids are unique where tables are joined. */
export interface ProbabilityTable {
  /** Names of the value columns, such as `winner_model_a`. */
  readonly columns: readonly string[];
  readonly rows: readonly ProbabilityRow[];
}

/** The dataset itself, once no two rows have the same id. @throws DataError naming the second */
export function requireUniqueIds(dataset: Dataset): Dataset {
  const seen = new Map<string, DataRow>();
  for (const row of dataset.rows) {
    const first = seen.get(row.id);
    if (first !== undefined) {
      throw new DataError(
        "DATA_ID_TWICE",
        `id ${JSON.stringify(row.id)} stands also in ${first.file}:${first.line}`,
        row,
        { hint: "Predictions are joined by id; give every row its own." },
      );
    }
    seen.set(row.id, row);
  }
  return dataset;
}

/** The table itself, once all its values are numbers. @throws QloraError naming the first row that is not */
export function requireFinite<T extends ProbabilityTable>(table: T, what: string): T {
  const broken = table.rows.filter(({ values }) => !values.every(Number.isFinite));
  const [first] = broken;
  if (first === undefined) return table;
  throw new QloraError(
    "PROBABILITIES_NOT_FINITE",
    `${what}: ${broken.length} of ${table.rows.length} rows have values that are not finite, the first is id ${JSON.stringify(first.id)} (${first.values.join(", ")}); nothing was written`,
    { hint: "Where --tier f32 gives the same, the adapter itself is broken: take an earlier checkpoint." },
  );
}

const csvCell = (text: string): string => (/[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);

/** The table as CSV: `id`, then the columns. */
export function formatProbabilities({ columns, rows }: ProbabilityTable): string {
  const lines = rows.map(({ id, values }) => `${[csvCell(id), ...values].join(",")}\n`);
  return `${["id", ...columns].map(csvCell).join(",")}\n${lines.join("")}`;
}

/** Probabilities of a row may miss 1 by so much: files are often rounded. */
const SUM_TOLERANCE = 1e-3;

/** Whether these are probabilities of all classes, up to rounding. */
export function isDistribution(values: readonly number[]): boolean {
  const sum = values.reduce((total, value) => total + value, 0);
  return values.every((value) => value >= 0 && value <= 1) && Math.abs(sum - 1) <= SUM_TOLERANCE;
}

function idColumn(csv: CsvFile): number {
  const column = csv.column("id");
  if (column !== undefined) return column;
  throw new DataError(
    "DATA_COLUMN_MISSING",
    `column id is missing; found ${csv.header.join(", ")}`,
    { file: csv.file, line: 1 },
    { hint: "Files are joined by id." },
  );
}

/** Collects rows by id. @throws DataError for an id that stands twice */
function byId<T>(csv: CsvFile, read: (cells: readonly string[], line: number) => T): Map<string, T> {
  const column = idColumn(csv);
  const rows = new Map<string, T>();
  csv.map((cells, line) => {
    const id = cells[column]!;
    if (rows.has(id))
      throw new DataError("DATA_ID_TWICE", `id ${JSON.stringify(id)} stands twice`, { file: csv.file, line });
    rows.set(id, read(cells, line));
  });
  if (rows.size === 0) throw new DataError("DATA_EMPTY", "the file has no rows", { file: csv.file });
  return rows;
}

/**
 * Reads what {@link formatProbabilities} writes: `id` and a column for each class.
 * @throws DataError with file and line for what is no probability, rows that do not sum to 1, ids that repeat
 */
export function readProbabilities(file: string): ProbabilityTable {
  const csv = openCsv(file);
  const id = idColumn(csv);
  const columns = csv.header.filter((_, column) => column !== id);
  const rows = byId(csv, (cells, line) => {
    const texts = cells.filter((_, column) => column !== id);
    const values = texts.map((text) => (text.trim() === "" ? Number.NaN : Number(text)));
    const bad = values.findIndex((value) => !(value >= 0 && value <= 1));
    if (bad >= 0) {
      const message = `column ${columns[bad]}: expected a probability, got ${JSON.stringify(texts[bad])}`;
      throw new DataError("DATA_CELL_INVALID", message, { file, line }, { hint: "Write them without --logits." });
    }
    const sum = values.reduce((total, value) => total + value, 0);
    if (!(Math.abs(sum - 1) <= SUM_TOLERANCE))
      throw new DataError("DATA_CELL_INVALID", `expected probabilities that sum to 1, got ${sum}`, { file, line });
    return values;
  });
  return { columns, rows: [...rows].map(([key, values]) => ({ id: key, values })) };
}

/**
 * Classes by id, from the winner columns or a column `label`.
 * @param names columns of the classes, which a label may name
 * @throws DataError with file and line
 */
export function readLabels(file: string, names: readonly string[] = []): Map<string, number> {
  const csv = openCsv(file);
  const winner = winnerReader(csv);
  if (winner !== undefined) return byId(csv, winner);
  const column = csv.column("label");
  if (column === undefined) {
    const message = `there are no labels; found ${csv.header.join(", ")}`;
    throw new DataError(
      "DATA_COLUMN_MISSING",
      message,
      { file, line: 1 },
      {
        hint: "Labels stand in the winner columns or in a column label (a class index from 0).",
      },
    );
  }
  return byId(csv, (cells, line) => {
    const named = names.indexOf(cells[column]!.trim());
    const label = named >= 0 ? named : cells[column]!.trim() === "" ? Number.NaN : Number(cells[column]);
    if (Number.isInteger(label) && label >= 0) return label;
    const message = `label: expected a class index (0, 1, ...), got ${JSON.stringify(cells[column])}`;
    throw new DataError("DATA_LABEL_INVALID", message, { file, line });
  });
}
