/** Comparisons of two answers to a prompt, in the columns of the LMSYS competition and of its sequel: CSV. */
import { DataError } from "../../../core/errors.ts";
import type { CsvFile } from "../csv.ts";
import { parsePythonList } from "../python-list.ts";
import type { BaseRow, DataFormat, FixedClasses, FormatRows, LabelReader, ReadOptions } from "./format.ts";

/** A prompt and two answers, kept apart so that they can be cut or swapped before they are joined. */
export type ArenaRow = BaseRow & {
  readonly kind: "arena";
  readonly prompt: string;
  readonly responseA: string;
  readonly responseB: string;
};

/** Columns that make a CSV file an arena file. */
const ARENA_COLUMNS = ["prompt", "response_a", "response_b"] as const;

const WINNER_COLUMNS = ["winner_model_a", "winner_model_b", "winner_tie"] as const;

/** How a file writes texts in its cells: as lists of turns, or plainly (the sequel competition's files). */
type CellKind = "lists" | "texts";

/**
 * The text of an arena cell: a list of turns joined by one space, null as "". Lists are JSON, else as Python prints them.
 * Unlike the notebook's Python `eval`, JSON escapes are read as JSON (surrogate pairs become one character, `\/` is `/`)
 * and what is left of lone surrogates becomes U+FFFD.
 */
function joinTurns(cell: string, column: string, file: string, line: number): string {
  const bad = (got: string, cause?: unknown) =>
    new DataError(
      "DATA_CELL_INVALID",
      `column ${column}: expected a JSON list of strings and nulls, got ${got}`,
      { file, line },
      { hint: cellHint(cell, column), cause },
    );
  const turns = parseTurns(cell, (cause) => bad(`${excerpt(cell)} (${cause.message})`, cause));
  if (!Array.isArray(turns)) throw bad(excerpt(cell));
  const texts = turns.map((turn: unknown) => {
    if (turn === null) return "";
    if (typeof turn !== "string") throw bad(`${describe(turn)} in the list`);
    return turn;
  });
  return texts.join(" ").toWellFormed();
}

function parseTurns(cell: string, refuse: (cause: Error) => Error): unknown {
  try {
    return JSON.parse(cell);
  } catch (cause) {
    const turns = parsePythonList(cell);
    if (turns === undefined) throw refuse(cause as Error);
    return turns;
  }
}

/** numpy prints an array's strings without commas between them, and Python would join those into one. */
function cellHint(cell: string, column: string): string {
  if (/^\s*\[\s*['"]/.test(cell) && /['"]\s+['"]/.test(cell))
    return `Write lists, not numpy arrays: df["${column}"] = df["${column}"].map(lambda turns: json.dumps(list(turns)))`;
  return 'A cell looks like ["first turn","second turn"].';
}

function excerpt(text: string): string {
  return JSON.stringify(text.length > 40 ? `${text.slice(0, 40)}...` : text);
}

/** A value found in place of a string; an object or a list may be nested too deep to be shown. */
function describe(value: unknown): string {
  if (typeof value === "object") return Array.isArray(value) ? "a list" : "an object";
  return excerpt(JSON.stringify(value));
}

/** Rows that are examined to find the kind of a file's cells. */
const SAMPLED_ROWS = 1000;

/** "lists" if many cells look like lists, so that a damaged one among them is an error; empty cells count as neither. */
function cellKind(csv: CsvFile, columns: readonly number[]): CellKind {
  let [lists, texts] = [0, 0];
  csv.map((cells) => {
    for (const column of columns) {
      const cell = cells[column]!.trim();
      if (cell.startsWith("[") && cell.endsWith("]")) lists++;
      else if (cell !== "") texts++;
    }
  }, SAMPLED_ROWS);
  return lists * 2 >= texts ? "lists" : "texts";
}

function isSet(cell: string, column: string, file: string, line: number): boolean {
  if (/^(1|1\.0|true)$/i.test(cell)) return true;
  if (/^(0|0\.0|false)$/i.test(cell)) return false;
  throw new DataError("DATA_LABEL_INVALID", `column ${column}: expected 0 or 1, got ${excerpt(cell)}`, { file, line });
}

/**
 * Rows by the competition's columns, found by name. Labels: 0 = A wins, 1 = B wins, 2 = tie; without the winner columns the
 * label is undefined.
 * @throws DataError with file and line
 */
function readCsv(csv: CsvFile, { firstIndex, labelled, softLabelColumns }: ReadOptions): FormatRows<ArenaRow> {
  const { file } = csv;
  const required = (name: string): number => requiredColumn(csv, name);
  const [prompt, responseA, responseB] = [required("prompt"), required("response_a"), required("response_b")];
  const idColumn = csv.column("id");
  // Winner columns that hold probabilities are no labels.
  const hard = labelled && !softLabelColumns.some((name) => name.startsWith("winner_"));
  const labelOf = hard ? winnerReader(csv) : undefined;
  const kind = cellKind(csv, [prompt, responseA, responseB]);

  let index = firstIndex;
  const rows = csv.map((cells, line): ArenaRow => {
    const text = (column: number, name: string): string =>
      kind === "lists" ? joinTurns(cells[column]!, name, file, line) : cells[column]!.toWellFormed();
    const position = index++;
    return {
      kind: "arena",
      id: idColumn === undefined ? String(position) : cells[idColumn]!,
      file,
      line,
      label: labelOf?.(cells, line),
      prompt: text(prompt, "prompt"),
      responseA: text(responseA, "response_a"),
      responseB: text(responseB, "response_b"),
    };
  });
  if (labelOf === undefined) return { rows };
  return { rows, classes: csv.column("winner_tie") !== undefined || rows.some(({ label }) => label === 2) ? 3 : 2 };
}

function requiredColumn(csv: CsvFile, name: string): number {
  const index = csv.column(name);
  if (index !== undefined) return index;
  throw new DataError(
    "DATA_COLUMN_MISSING",
    `column ${name} is missing; found ${csv.header.join(", ")}`,
    { file: csv.file, line: 1 },
    {
      hint: `Arena files have ${ARENA_COLUMNS.join(", ")} and, for training, ${WINNER_COLUMNS.join(", ")}, or a column winner.`,
    },
  );
}

/** What a column `winner` says: the words of the arena's own files, and of the competition that followed. */
const WINNERS: ReadonlyMap<string, number> = new Map([
  ["model_a", 0],
  ["model_b", 1],
  ["tie", 2],
  ["tie (bothbad)", 2],
]);

/**
 * Reads the class of a row (0 = A wins, 1 = B wins, 2 = tie) from the winner columns, else from a column `winner`; undefined
 * for a file without them.
 * @throws DataError where only some of the columns are there, and, when called, for a row without exactly one winner
 */
function winnerReader(csv: CsvFile): LabelReader | undefined {
  if (WINNER_COLUMNS.every((name) => csv.column(name) === undefined)) return winnerWords(csv);
  const winners = [requiredColumn(csv, "winner_model_a"), requiredColumn(csv, "winner_model_b")];
  const tie = csv.column("winner_tie");
  if (tie !== undefined) winners.push(tie);
  return (cells, line) => winnerLabel(winners, cells, tie !== undefined, csv.file, line);
}

function winnerWords(csv: CsvFile): LabelReader | undefined {
  const column = csv.column("winner");
  if (column === undefined) return undefined;
  return (cells, line) => {
    const label = WINNERS.get(cells[column]!.trim().toLowerCase());
    if (label !== undefined) return label;
    const message = `column winner: expected ${[...WINNERS.keys()].join(", ")}, got ${excerpt(cells[column]!)}`;
    throw new DataError("DATA_LABEL_INVALID", message, { file: csv.file, line });
  };
}

function winnerLabel(
  columns: readonly number[],
  cells: readonly string[],
  hasTie: boolean,
  file: string,
  line: number,
): number {
  const set = columns.map((column, label) => isSet(cells[column]!, WINNER_COLUMNS[label]!, file, line));
  const winners = set.flatMap((won, label) => (won ? [label] : []));
  if (winners.length === 1) return winners[0]!;
  if (winners.length === 0 && !hasTie) return 2;
  const got = winners.length === 0 ? "none" : winners.map((label) => WINNER_COLUMNS[label]).join(" and ");
  throw new DataError("DATA_LABEL_INVALID", `expected exactly one winner column to be 1, got ${got}`, { file, line });
}

const classes: FixedClasses<ArenaRow> = {
  names: ["A wins", "B wins", "tie"],
  columns: WINNER_COLUMNS,
  min: 2,
  expected: {
    all: "three classes (A wins, B wins, tie)",
    some: "an arena's classes (A wins, B wins, perhaps tie)",
  },
  missing: (seen, numLabels) =>
    numLabels < 3 || seen.has(2)
      ? undefined
      : "no training row is a tie: the third of the three classes is never seen (without a column winner_tie, two are trained)",
  mirror: {
    row: (row) => ({ ...row, responseA: row.responseB, responseB: row.responseA }),
    labels: [1, 0, 2],
  },
};

/** Rows with `prompt`, `response_a` and `response_b`, and who won. */
export const arena: DataFormat<"arena", ArenaRow> = {
  name: "arena",
  kinds: ["arena"],
  columns: "columns prompt, response_a, response_b, winner_*",
  labelColumns: "the winner columns",
  recognizes: (source) => source.type === "csv" && ARENA_COLUMNS.every((name) => source.has(name)),
  read: (source, options) => {
    if (source.type === "csv") return readCsv(source, options);
    throw new DataError(
      "DATA_FORMAT_UNKNOWN",
      "an arena file is a CSV, got JSONL",
      { file: source.file },
      { hint: 'Use format "classification" or "auto".' },
    );
  },
  labelReader: winnerReader,
  fields: ({ prompt, responseA, responseB }) => [prompt, responseA, responseB],
  // The seed notebook's template.
  fieldHeads: ["<prompt>: ", "\n\n<response_a>: ", "\n\n<response_b>: "],
  classes,
};
