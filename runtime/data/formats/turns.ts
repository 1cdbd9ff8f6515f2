/** What a column of a conversation holds: a text, a list of turns, or a list of messages ({role, content}). */
import { DataError } from "../../../core/errors.ts";
import type { Turn } from "../../../core/plugin/template.ts";
import { isObject } from "../../../core/formats/json-object.ts";
import type { DataRecord, DataSource } from "../../../core/plugin/data-format.ts";
import { excerptOf } from "../sources/json.ts";
import { parsePythonList } from "../python-list.ts";

/** How a file writes strings: as lists of turns in JSON, or plainly (the sequel competition's files). */
export type CellKind = "lists" | "texts";

/** "lists" if many strings look like lists, so that a damaged one among them is an error; empty ones count as neither. */
export function cellKind({ sample }: Pick<DataSource, "sample">, columns: readonly string[]): CellKind {
  let [lists, texts] = [0, 0];
  for (const record of sample) {
    for (const column of columns) {
      const value = record.value(column);
      const cell = typeof value === "string" ? value.trim() : "";
      if (cell.startsWith("[") && cell.endsWith("]")) lists++;
      else if (cell !== "") texts++;
    }
  }
  return lists > 0 && lists * 2 >= texts ? "lists" : "texts";
}

/** Text as it is tokenized; what is left of lone surrogates becomes U+FFFD. */
export const joinTurns = (turns: readonly Turn[]): string => turns.map(({ text }) => text).join(" ");

/** Where a value stands, for messages. */
interface Place {
  readonly file: string;
  readonly line: number;
  /** The file's own name of the column. */
  readonly column: string;
}

const invalid = (
  { file, line, column }: Place,
  expected: string,
  got: string,
  hint: string,
  cause?: unknown,
): DataError =>
  new DataError(
    "DATA_CELL_INVALID",
    `column ${column}: expected ${expected}, got ${got}`,
    { file, line },
    { hint, cause },
  );

/**
 * Turns of a column. Lists in a string are JSON, else as Python prints them. Unlike the notebook's Python `eval`, JSON escapes are
 * read as JSON (surrogate pairs become one character, `\/` is `/`).
 * @throws DataError with file and line
 */
export function readTurns(record: DataRecord, name: string, kind: CellKind, source: DataSource): readonly Turn[] {
  const place: Place = { file: source.file, line: record.line, column: source.nameOf(name) };
  const value = record.value(name);
  if (typeof value === "string") {
    if (kind === "texts") return [{ text: value.toWellFormed() }];
    return listOf(parseList(value, place), place, excerpt(value));
  }
  if (value === undefined || value === null) return [{ text: "" }];
  return listOf(value, place, excerptOf(value));
}

function parseList(cell: string, place: Place): unknown {
  try {
    return JSON.parse(cell);
  } catch (cause) {
    const turns = parsePythonList(cell);
    if (turns !== undefined) return turns;
    const got = `${excerpt(cell)} (${(cause as Error).message})`;
    throw invalid(place, "a JSON list of strings and nulls", got, cellHint(cell, place.column), cause);
  }
}

function listOf(value: unknown, place: Place, shown: string): readonly Turn[] {
  const expected = "a JSON list of strings and nulls";
  const hint = 'A cell looks like ["first turn","second turn"], or [{"role": "user", "content": "first turn"}].';
  if (!Array.isArray(value)) throw invalid(place, expected, shown, hint);
  return value.map((item: unknown): Turn => {
    if (item === null) return { text: "" };
    if (typeof item === "string") return { text: item.toWellFormed() };
    const message = isObject(item) ? messageOf(item) : undefined;
    if (message !== undefined) return message;
    throw invalid(place, expected, `${describe(item)} in the list`, hint);
  });
}

/** A message of a chat: {role, content}, or {from, value} as ShareGPT writes it; content may be a list of texts. */
function messageOf(item: Readonly<Record<string, unknown>>): Turn | undefined {
  const [role, content] = "content" in item ? [item["role"], item["content"]] : [item["from"], item["value"]];
  if (typeof role !== "string") return undefined;
  const text = contentText(content);
  return text === undefined ? undefined : { role, text: text.toWellFormed() };
}

function contentText(content: unknown): string | undefined {
  if (content === null) return "";
  if (typeof content === "string") return content;
  if (!Array.isArray(content)) return undefined;
  const parts = content.map((part: unknown) =>
    isObject(part) && typeof part["text"] === "string" ? part["text"] : undefined,
  );
  return parts.includes(undefined) ? undefined : parts.join("");
}

/** numpy prints an array's strings without commas between them, and Python would join those into one. */
function cellHint(cell: string, column: string): string {
  if (/^\s*\[\s*['"]/.test(cell) && /['"]\s+['"]/.test(cell))
    return `Write lists, not numpy arrays: df["${column}"] = df["${column}"].map(lambda turns: json.dumps(list(turns)))`;
  return 'A cell looks like ["first turn","second turn"].';
}

export function excerpt(text: string): string {
  return JSON.stringify(text.length > 40 ? `${text.slice(0, 40)}...` : text);
}

/** A value found in place of a string; an object or a list may be nested too deep to be shown. */
function describe(value: unknown): string {
  if (typeof value === "object") return Array.isArray(value) ? "a list" : "an object";
  return excerptOf(value);
}
