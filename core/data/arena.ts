import { DataError } from "../errors.ts";
import type { CsvFile } from "./csv.ts";
import type { ArenaRow } from "./row.ts";

/** Columns that make a CSV file an arena file. */
export const ARENA_COLUMNS = ["prompt", "response_a", "response_b"] as const;

const WINNER_COLUMNS = ["winner_model_a", "winner_model_b", "winner_tie"] as const;

/**
 * The text of an arena cell: a JSON list of turns joined by one space, null as "".
 * Unlike the notebook's Python `eval`, JSON escapes are read as JSON (surrogate pairs become one character, `\/` is `/`)
 * and what is left of lone surrogates becomes U+FFFD.
 */
function joinTurns(cell: string, column: string, file: string, line: number): string {
  const bad = (got: string, cause?: unknown) =>
    new DataError(
      "DATA_CELL_INVALID",
      `column ${column}: expected a JSON list of strings and nulls, got ${got}`,
      { file, line },
      { hint: 'A cell looks like ["first turn","second turn"].', cause },
    );
  let turns: unknown;
  try {
    turns = JSON.parse(cell);
  } catch (cause) {
    throw bad(`${excerpt(cell)} (${(cause as Error).message})`, cause);
  }
  if (!Array.isArray(turns)) throw bad(excerpt(cell));
  const texts = turns.map((turn: unknown) => {
    if (turn === null) return "";
    if (typeof turn !== "string") throw bad(`${excerpt(JSON.stringify(turn))} in the list`);
    return turn;
  });
  return texts.join(" ").toWellFormed();
}

function excerpt(text: string): string {
  return JSON.stringify(text.length > 40 ? `${text.slice(0, 40)}...` : text);
}

function isSet(cell: string, column: string, file: string, line: number): boolean {
  if (/^(1|1\.0|true)$/i.test(cell)) return true;
  if (/^(0|0\.0|false)$/i.test(cell)) return false;
  throw new DataError("DATA_LABEL_INVALID", `column ${column}: expected 0 or 1, got ${excerpt(cell)}`, { file, line });
}

/**
 * Rows of an arena CSV (the competition's columns, found by name). Labels: 0 = A wins, 1 = B wins, 2 = tie; without the
 * winner columns the label is undefined.
 * @param firstIndex position of the first row after concatenation, the id of rows that have none
 * @param labelled whether the winner columns, where there are any, are the labels
 * @throws DataError with file and line
 */
export function readArena(csv: CsvFile, firstIndex = 0, labelled = true): ArenaRow[] {
  const { file } = csv;
  const required = (name: string): number => requiredColumn(csv, name);
  const [prompt, responseA, responseB] = [required("prompt"), required("response_a"), required("response_b")];
  const idColumn = csv.column("id");
  const labelOf = labelled ? winnerReader(csv) : undefined;

  let index = firstIndex;
  return csv.map((cells, line) => {
    const text = (column: number, name: string) => joinTurns(cells[column]!, name, file, line);
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
}

function requiredColumn(csv: CsvFile, name: string): number {
  const index = csv.column(name);
  if (index !== undefined) return index;
  throw new DataError(
    "DATA_COLUMN_MISSING",
    `column ${name} is missing; found ${csv.header.join(", ")}`,
    { file: csv.file, line: 1 },
    { hint: `Arena files have ${ARENA_COLUMNS.join(", ")} and, for training, ${WINNER_COLUMNS.join(", ")}.` },
  );
}

/**
 * Reads the class of a row (0 = A wins, 1 = B wins, 2 = tie) from the winner columns; undefined for a file without them.
 * @throws DataError where only some of the columns are there, and, when called, for a row without exactly one winner
 */
export function winnerReader(csv: CsvFile): ((cells: readonly string[], line: number) => number) | undefined {
  if (WINNER_COLUMNS.every((name) => csv.column(name) === undefined)) return undefined;
  const winners = [requiredColumn(csv, "winner_model_a"), requiredColumn(csv, "winner_model_b")];
  const tie = csv.column("winner_tie");
  if (tie !== undefined) winners.push(tie);
  return (cells, line) => winnerLabel(winners, cells, tie !== undefined, csv.file, line);
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
