import { DataError } from "../errors.ts";
import { readDataFile, type CsvFile } from "./csv.ts";
import type { DataRow } from "./row.ts";

const HINT =
  "A row has text (a string) or input_ids (a list of token ids), for training label (a class index from 0), and optionally id.";

type RawRow = { readonly text: unknown; readonly inputIds: unknown; readonly label: unknown; readonly id: unknown };

function toRow(raw: RawRow, file: string, line: number, position: number): DataRow {
  const fail = (code: string, message: string) => new DataError(code, message, { file, line }, { hint: HINT });
  const origin = { id: rowId(raw.id, position, fail), file, line, label: rowLabel(raw.label, fail) };
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

function rowId(id: unknown, position: number, fail: (code: string, message: string) => DataError): string {
  if (id === undefined || id === null) return String(position);
  if (typeof id === "string" || typeof id === "number") return String(id);
  throw fail("DATA_CELL_INVALID", `id: expected a string or a number, got ${show(id)}`);
}

function rowLabel(label: unknown, fail: (code: string, message: string) => DataError): number | undefined {
  if (label === undefined || label === null) return undefined;
  if (isIndex(label)) return label;
  throw fail("DATA_LABEL_INVALID", `label: expected a class index (0, 1, ...), got ${show(label)}`);
}

function isIndex(value: unknown): value is number {
  return Number.isInteger(value) && (value as number) >= 0 && (value as number) < 2 ** 32;
}

function show(value: unknown): string {
  const text = JSON.stringify(value) ?? "nothing";
  return text.length > 60 ? `${text.slice(0, 60)}...` : text;
}

/**
 * Rows of a JSONL file: one object a line with `text` or `input_ids`, and optionally `label` and `id`. Blank lines are skipped.
 * @param firstIndex position of the first row after concatenation, the id of rows that have none
 * @throws DataError with file and line
 */
export function readClassificationJsonl(file: string, firstIndex = 0): DataRow[] {
  const bytes = readDataFile(file);
  const decoder = new TextDecoder();
  const rows: DataRow[] = [];
  for (let start = 0, line = 1; start < bytes.length; line++) {
    const newline = bytes.indexOf(10, start);
    const end = newline === -1 ? bytes.length : newline;
    const text = decoder.decode(bytes.subarray(start, end)).trim();
    start = end + 1;
    if (text === "") continue;
    const bad = (got: string, cause?: unknown) =>
      new DataError("DATA_CELL_INVALID", `expected one JSON object, got ${got}`, { file, line }, { hint: HINT, cause });
    let value: unknown;
    try {
      value = JSON.parse(text);
    } catch (cause) {
      throw bad(`${show(text)} (${(cause as Error).message})`, cause);
    }
    if (typeof value !== "object" || value === null || Array.isArray(value)) throw bad(show(value));
    const { text: rowText, input_ids: inputIds, label, id } = value as Record<string, unknown>;
    rows.push(toRow({ text: rowText, inputIds, label, id }, file, line, firstIndex + rows.length));
  }
  return rows;
}

/**
 * Rows of a CSV file with columns `text` or `input_ids` (a JSON list), and optionally `label` and `id`.
 * @throws DataError with file and line
 */
export function readClassificationCsv(csv: CsvFile, firstIndex = 0): DataRow[] {
  const { file } = csv;
  const columns = {
    text: csv.column("text"),
    inputIds: csv.column("input_ids"),
    label: csv.column("label"),
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
      { text, id, inputIds: parseCell(cell(columns.inputIds)), label: parseCell(cell(columns.label)) },
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
