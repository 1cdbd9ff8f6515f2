import { DataError } from "../../core/errors.ts";
import { isObject } from "../../core/formats/json-object.ts";
import type { ReadRow } from "./classes.ts";
import { readDataFile, type CsvFile } from "./csv.ts";

const HINT =
  "A row has text (a string) or input_ids (a list of token ids), for training label (a class index from 0, or a class's name), and optionally id.";

type RawRow = { readonly text: unknown; readonly inputIds: unknown; readonly label: unknown; readonly id: unknown };

type Fail = (code: string, message: string) => DataError;

function toRow(raw: RawRow, file: string, line: number, position: number): ReadRow {
  const fail: Fail = (code, message) => new DataError(code, message, { file, line }, { hint: HINT });
  const origin = { id: rowId(raw.id, position, fail), file, line, ...rowLabel(raw.label, fail) };
  if (raw.text !== undefined && raw.inputIds !== undefined)
    throw fail("DATA_CELL_INVALID", "the row has both text and input_ids; keep one");
  if (raw.text !== undefined) {
    if (typeof raw.text !== "string") throw fail("DATA_CELL_INVALID", `text: expected a string, got ${show(raw.text)}`);
    return { ...origin, kind: "text", text: raw.text.toWellFormed() };
  }
  if (raw.inputIds === undefined) throw fail("DATA_COLUMN_MISSING", "the row has neither text nor input_ids");
  const ids = raw.inputIds;
  if (!Array.isArray(ids) || ids.length === 0 || !ids.every(isIndex)) {
    throw fail("DATA_CELL_INVALID", `input_ids: expected a non-empty list of token ids, got ${show(ids)}`);
  }
  return { ...origin, kind: "ids", inputIds: Uint32Array.from(ids) };
}

function rowId(id: unknown, position: number, fail: Fail): string {
  if (id === undefined || id === null) return String(position);
  if (typeof id === "string") return id;
  throw fail("DATA_CELL_INVALID", `id: expected a string or a number, got ${show(id)}`);
}

/** An index as it is, a name beside it; nothing for null and blank ones. */
function rowLabel(label: unknown, fail: Fail): { readonly label: number | undefined; readonly labelName?: string } {
  if (label === undefined || label === null || label === "") return { label: undefined };
  if (isIndex(label)) return { label };
  if (typeof label === "string" || typeof label === "boolean") return { label: undefined, labelName: String(label) };
  throw fail("DATA_LABEL_INVALID", `label: expected a class index (0, 1, ...) or a name, got ${show(label)}`);
}

function isIndex(value: unknown): value is number {
  return Number.isInteger(value) && (value as number) >= 0 && (value as number) < 2 ** 32;
}

/** A value in a message: its beginning, or what it is where it may be too deep to be written. */
function show(value: unknown): string {
  if (Array.isArray(value) && value.some((item) => typeof item === "object")) return "a list of lists or objects";
  if (typeof value === "object" && value !== null && !Array.isArray(value)) return "an object";
  const cut = typeof value === "string" ? value.slice(0, 60) : Array.isArray(value) ? value.slice(0, 30) : value;
  const text = JSON.stringify(cut) ?? "nothing";
  const whole = cut === value || (cut as ArrayLike<unknown>).length === (value as ArrayLike<unknown>).length;
  return whole && text.length <= 62 ? text : `${text.slice(0, 60)}...`;
}

/** One past the closing quote of the JSON string that starts at `at`. */
function stringEnd(text: string, at: number): number {
  for (let end = text.indexOf('"', at + 1); end !== -1; end = text.indexOf('"', end + 1)) {
    let escapes = 0;
    while (text[end - 1 - escapes] === "\\") escapes++;
    if (escapes % 2 === 0) return end + 1;
  }
  return text.length;
}

/** JSON of a line as Python writes it: NaN and the infinities, which JSON lacks, are null. */
function withoutNaN(text: string): string {
  const tokens = /-?Infinity|NaN|"/g;
  let out = "";
  let at = 0;
  for (let found = tokens.exec(text); found !== null; found = tokens.exec(text)) {
    // Strings are skipped whole, so that the words inside them are left alone.
    if (found[0] === '"') tokens.lastIndex = stringEnd(text, found.index);
    else {
      out += `${text.slice(at, found.index)}null`;
      at = tokens.lastIndex;
    }
  }
  return out + text.slice(at);
}

function parseLine(text: string): { readonly value: unknown; readonly json: string } {
  try {
    return { value: JSON.parse(text), json: text };
  } catch (cause) {
    const json = /NaN|Infinity/.test(text) ? withoutNaN(text) : text;
    if (json === text) throw cause;
    return { value: JSON.parse(json), json };
  }
}

/** The number of an object's own `name` as it is written, since a double rounds ids of 16 digits and more. */
function writtenNumber(json: string, name: string): string | undefined {
  const tokens = /["{}[\]]/g;
  const number = /\s*:\s*(-?\d[\d.eE+-]*)/y;
  let depth = 0;
  let written: string | undefined;
  // Only tokens are looked at: a value may be too deep to be visited.
  for (let found = tokens.exec(json); found !== null; found = tokens.exec(json)) {
    if (found[0] === "{" || found[0] === "[") depth++;
    else if (found[0] !== '"') depth--;
    else {
      const end = stringEnd(json, found.index);
      tokens.lastIndex = number.lastIndex = end;
      const value = depth === 1 ? number.exec(json)?.[1] : undefined;
      if (value !== undefined && JSON.parse(json.slice(found.index, end)) === name) written = value;
    }
  }
  return written;
}

/**
 * Rows of a JSONL file: one object a line with `text` or `input_ids`, and optionally `label` and `id`. Blank lines are skipped.
 * @param firstIndex position of the first row after concatenation, the id of rows that have none
 * @param labelled whether labels are read
 * @throws DataError with file and line
 */
export function readClassificationJsonl(file: string, firstIndex = 0, labelled = true): ReadRow[] {
  const bytes = readDataFile(file);
  const decoder = new TextDecoder();
  const rows: ReadRow[] = [];
  for (let start = 0, line = 1; start < bytes.length; line++) {
    const newline = bytes.indexOf(10, start);
    const end = newline === -1 ? bytes.length : newline;
    const text = decoder.decode(bytes.subarray(start, end)).trim();
    start = end + 1;
    if (text === "") continue;
    const bad = (got: string, cause?: unknown) =>
      new DataError("DATA_CELL_INVALID", `expected one JSON object, got ${got}`, { file, line }, { hint: HINT, cause });
    let parsed: ReturnType<typeof parseLine>;
    try {
      parsed = parseLine(text);
    } catch (cause) {
      throw bad(`${show(text)} (${(cause as Error).message})`, cause);
    }
    const { value, json } = parsed;
    if (!isObject(value)) throw bad(show(value));
    const { text: rowText, input_ids: inputIds, label, id: givenId } = value;
    const id = typeof givenId === "number" ? writtenNumber(json, "id") : givenId;
    const raw = { text: rowText, inputIds, label: labelled ? label : undefined, id };
    rows.push(toRow(raw, file, line, firstIndex + rows.length));
  }
  return rows;
}

/**
 * Rows of a CSV file with columns `text` or `input_ids` (a JSON list), and optionally `label` and `id`.
 * @throws DataError with file and line
 */
export function readClassificationCsv(csv: CsvFile, firstIndex = 0, labelled = true): ReadRow[] {
  const { file } = csv;
  const columns = {
    text: csv.column("text"),
    inputIds: csv.column("input_ids"),
    label: labelled ? csv.column("label") : undefined,
    id: csv.column("id"),
  };
  if (columns.text === undefined && columns.inputIds === undefined) {
    throw new DataError(
      "DATA_COLUMN_MISSING",
      `column text or input_ids is missing; found ${csv.header.join(", ")}`,
      { file, line: 1 },
      { hint: HINT },
    );
  }
  let index = firstIndex;
  return csv.map((cells, line) => {
    const cell = (column: number | undefined): string | undefined =>
      column === undefined ? undefined : cells[column]!;
    const [text, id] = [cell(columns.text), cell(columns.id)];
    return toRow(
      { text, id, inputIds: parseCell(cell(columns.inputIds)), label: parseLabel(cell(columns.label)) },
      file,
      line,
      index++,
    );
  });
}

/** A cell read as JSON; what is no JSON stays text, so that the check that follows can show it. */
function parseCell(cell: string | undefined): unknown {
  if (cell === undefined) return undefined;
  try {
    return JSON.parse(cell);
  } catch {
    return cell;
  }
}

/** A cell's number, else the cell itself as a name; a name has no space around it. */
function parseLabel(cell: string | undefined): unknown {
  const value = parseCell(cell);
  return typeof value === "number" ? value : cell?.trim();
}
