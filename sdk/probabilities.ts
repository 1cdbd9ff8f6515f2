/** Class probabilities of rows, known by their ids. */
import { DataError, QloraError } from "../core/errors.ts";
import type { DataFormat } from "../core/plugin/data-format.ts";
import type { Task } from "../core/plugin/task.ts";
import { type CsvFile, openCsv } from "../runtime/data/csv.ts";
import { type Dataset, eachRecord } from "../runtime/data/dataset.ts";
import { dataFormats, type DataRow, fixedClasses } from "../runtime/data/formats/index.ts";

/** Columns of a dataset's probabilities: the names of the classes, else those of the rows' format, else `label_0`, `label_1` … */
export function probabilityColumns(
  { rows }: Dataset,
  numLabels: number,
  labelNames: readonly string[] | undefined,
): readonly string[] {
  // The first column is called id already.
  if (labelNames !== undefined) return labelNames.map((name) => (name === "id" ? "label_id" : name));
  const fixed = fixedClasses(rows)?.columns;
  if (fixed?.length === numLabels) return fixed;
  return Array.from({ length: numLabels }, (_, i) => `label_${i}`);
}

/** Columns of what a model of a task gives: its outputs' names, else `score` or `score_0` …, and of labels `label_0` … */
export function outputColumns(
  task: Task,
  dataset: Dataset,
  numLabels: number,
  names: readonly string[] | undefined,
): readonly string[] {
  if (task === "classification" || names !== undefined) return probabilityColumns(dataset, numLabels, names);
  if (numLabels === 1 && task !== "multi-label") return ["score"];
  return Array.from({ length: numLabels }, (_, i) => `${task === "multi-label" ? "label" : "score"}_${i}`);
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

/**
 * The table as a competition takes it: LMSYS's columns of probabilities; where nothing can be a tie, its sequel's `id,winner`, in which
 * the likelier answer wins.
 */
export function formatSubmission(table: ProbabilityTable): string {
  if (table.columns.join() !== "winner_model_a,winner_model_b") return formatProbabilities(table);
  const lines = table.rows.map(
    ({ id, values: [a = 0, b = 0] }) => `${csvCell(id)},${a >= b ? "model_a" : "model_b"}\n`,
  );
  return `id,winner\n${lines.join("")}`;
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
  throw noIds(csv.file, csv.header);
}

const noIds = (file: string, columns: readonly string[]): DataError =>
  new DataError(
    "DATA_COLUMN_MISSING",
    `column id is missing; found ${columns.join(", ")}`,
    { file, line: 1 },
    { hint: "Files are joined by id." },
  );

const idTwice = (file: string, line: number, id: string): DataError =>
  new DataError("DATA_ID_TWICE", `id ${JSON.stringify(id)} stands twice`, { file, line });

/** Collects rows by id. @throws DataError for an id that stands twice */
function byId<T>(csv: CsvFile, read: (cells: readonly string[], line: number) => T): Map<string, T> {
  const column = idColumn(csv);
  const rows = new Map<string, T>();
  csv.map((cells, line) => {
    const id = cells[column]!;
    if (rows.has(id)) throw idTwice(csv.file, line, id);
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
 * Classes by id, from the label columns of whichever format the files have.
 * @param names columns of the classes, which a label may name
 * @throws DataError with file and line
 */
export async function readLabels(file: string, names: readonly string[] = []): Promise<Map<string, number>> {
  const labels = new Map<string, number>();
  await eachRecord(file, (source) => {
    if (!source.has("id")) throw noIds(source.file, source.columns);
    const read = dataFormats
      .map((format: DataFormat) => format.labelReader(source, names))
      .find((reader) => reader !== undefined);
    if (read === undefined) {
      throw new DataError(
        "DATA_COLUMN_MISSING",
        `there are no labels; found ${source.columns.join(", ")}`,
        { file: source.file, line: 1 },
        { hint: `Labels stand in ${dataFormats.map(({ labelColumns }) => labelColumns).join(" or in ")}.` },
      );
    }
    return (record) => {
      const { line } = record;
      const id = record.text("id");
      if (id === undefined)
        throw new DataError(
          "DATA_ID_INVALID",
          "the record has no id",
          { file: source.file, line },
          { hint: "Files are joined by id." },
        );
      if (labels.has(id)) throw idTwice(source.file, line, id);
      labels.set(id, read(record));
    };
  });
  if (labels.size === 0) throw new DataError("DATA_EMPTY", "the file has no rows", { file });
  return labels;
}
