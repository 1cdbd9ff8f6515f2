/** Who won a comparison, as files say it: columns of their own, or a word, a number or a model's name in a column `winner`. */
import { DataError } from "../../../core/errors.ts";
import type { DataRecord, DataSource, LabelReader } from "../../../core/plugin/data-format.ts";
import { excerpt } from "./turns.ts";

export const WINNER_COLUMNS = ["winner_model_a", "winner_model_b", "winner_tie"] as const;

/** What a column `winner` says: the words of the arena's own files, of the competition that followed, and of common others. */
const WINNERS: ReadonlyMap<string, number> = new Map([
  ...["model_a", "response_a", "a", "0"].map((word) => [word, 0] as const),
  ...["model_b", "response_b", "b", "1"].map((word) => [word, 1] as const),
  ...["tie", "tie (bothbad)", "bothbad", "both_bad", "2"].map((word) => [word, 2] as const),
]);

const EXPECTED = "model_a, model_b or tie; A or B; 0, 1 or 2; or the name in column model_a or model_b";

/** A required column. @throws DataError */
export function requireColumn(source: DataSource, name: string, hint: string): void {
  if (source.has(name)) return;
  const own = source.nameOf(name);
  const what = own === name ? `column ${name} is missing` : `column ${own} (columns.${name}) is missing`;
  throw new DataError(
    "DATA_COLUMN_MISSING",
    `${what}; found ${source.columns.join(", ")}`,
    { file: source.file, line: 1 },
    { hint },
  );
}

function isSet(record: DataRecord, column: string, source: DataSource): boolean {
  const value = record.value(column);
  const cell = typeof value === "string" ? value : String(value);
  if (/^(1|1\.0|true)$/i.test(cell)) return true;
  if (/^(0|0\.0|false)$/i.test(cell)) return false;
  const { line } = record;
  const { file } = source;
  throw new DataError("DATA_LABEL_INVALID", `column ${source.nameOf(column)}: expected 0 or 1, got ${excerpt(cell)}`, {
    file,
    line,
  });
}

/** Columns that say who won, of those that the file has. */
export const winnerColumns = (source: DataSource): readonly string[] =>
  [...WINNER_COLUMNS, "winner"].filter((name) => source.has(name));

/**
 * Reads the class of a row (0 = A wins, 1 = B wins, 2 = tie) from the winner columns, else from a column `winner`; undefined
 * for a file without them.
 * @param names words of a column `winner` for the classes, in their order, in place of the known ones
 * @throws DataError where only some of the columns are there, and, when called, for a row without exactly one winner
 */
export function winnerReader(source: DataSource, names: readonly string[], hint: string): LabelReader | undefined {
  if (WINNER_COLUMNS.every((name) => !source.has(name))) return winnerWords(source, names);
  for (const name of WINNER_COLUMNS.slice(0, 2)) requireColumn(source, name, hint);
  const hasTie = source.has("winner_tie");
  const columns = hasTie ? WINNER_COLUMNS : WINNER_COLUMNS.slice(0, 2);
  return (record) => {
    const winners = columns.flatMap((name, label) => (isSet(record, name, source) ? [label] : []));
    if (winners.length === 1) return winners[0]!;
    if (winners.length === 0 && !hasTie) return 2;
    const got = winners.length === 0 ? "none" : winners.map((label) => WINNER_COLUMNS[label]).join(" and ");
    const message = `expected exactly one winner column to be 1, got ${got}`;
    throw new DataError("DATA_LABEL_INVALID", message, { file: source.file, line: record.line });
  };
}

function winnerWords(source: DataSource, names: readonly string[]): LabelReader | undefined {
  if (!source.has("winner")) return undefined;
  return (record) => {
    const value = record.value("winner");
    const word = typeof value === "number" ? String(value) : typeof value === "string" ? value.trim() : undefined;
    const label = word === undefined ? undefined : classOf(word, record, names);
    if (label !== undefined) return label;
    const expected =
      names.length > 0
        ? names
            .slice(0, 3)
            .map((name) => JSON.stringify(name))
            .join(", ")
        : EXPECTED;
    const got = word === undefined ? (JSON.stringify(value) ?? "nothing") : excerpt(word);
    const message = `column ${source.nameOf("winner")}: expected ${expected}, got ${got}`;
    throw new DataError(
      "DATA_LABEL_INVALID",
      message,
      { file: source.file, line: record.line },
      {
        hint: "Where the column has other words, give them as data.labelNames: that of A, that of B, and that of a tie.",
      },
    );
  };
}

function classOf(word: string, record: DataRecord, names: readonly string[]): number | undefined {
  if (names.length > 0) {
    const named = names.indexOf(word);
    return named >= 0 && named < 3 ? named : undefined;
  }
  const models = ["model_a", "model_b"].map((name) => record.text(name)?.trim());
  // A row may compare a model with itself, and then its name says nothing.
  if (models[0] !== models[1] && models.includes(word)) return models.indexOf(word);
  return WINNERS.get(word.toLowerCase());
}
