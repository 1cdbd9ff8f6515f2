/** Texts, or token ids made elsewhere, and the class of each: JSONL or CSV. */
import { DataError } from "../../../core/errors.ts";
import type { CsvFile } from "../csv.ts";
import { excerptOf, type JsonlFile } from "../jsonl.ts";
import type { BaseRow, DataFormat, LabelReader, ReadOptions, ReadRow } from "./format.ts";

/** A text to classify. */
export type TextRow = BaseRow & { readonly kind: "text"; readonly text: string };

/** Token ids made elsewhere; taken as they are, without added specials. */
export type TokenRow = BaseRow & { readonly kind: "ids"; readonly inputIds: Uint32Array };

type ClassificationRow = TextRow | TokenRow;

const HINT =
  "A row has text (a string) or input_ids (a list of token ids), for training label (a class index from 0, or a class's name), and optionally id.";

type RawRow = { readonly text: unknown; readonly inputIds: unknown; readonly label: unknown; readonly id: unknown };

type Fail = (code: string, message: string) => DataError;

function toRow(raw: RawRow, file: string, line: number, position: number): ReadRow<ClassificationRow> {
  const fail: Fail = (code, message) => new DataError(code, message, { file, line }, { hint: HINT });
  const origin = { id: rowId(raw.id, position, fail), file, line, ...rowLabel(raw.label, fail) };
  if (raw.text !== undefined && raw.inputIds !== undefined)
    throw fail("DATA_CELL_INVALID", "the row has both text and input_ids; keep one");
  if (raw.text !== undefined) {
    if (typeof raw.text !== "string")
      throw fail("DATA_CELL_INVALID", `text: expected a string, got ${excerptOf(raw.text)}`);
    return { ...origin, kind: "text", text: raw.text.toWellFormed() };
  }
  if (raw.inputIds === undefined) throw fail("DATA_COLUMN_MISSING", "the row has neither text nor input_ids");
  const ids = raw.inputIds;
  if (!Array.isArray(ids) || ids.length === 0 || !ids.every(isIndex)) {
    throw fail("DATA_CELL_INVALID", `input_ids: expected a non-empty list of token ids, got ${excerptOf(ids)}`);
  }
  return { ...origin, kind: "ids", inputIds: Uint32Array.from(ids) };
}

function rowId(id: unknown, position: number, fail: Fail): string {
  if (id === undefined || id === null) return String(position);
  if (typeof id === "string") return id;
  throw fail("DATA_CELL_INVALID", `id: expected a string or a number, got ${excerptOf(id)}`);
}

/** An index as it is, a name beside it; nothing for null and blank ones. */
function rowLabel(label: unknown, fail: Fail): { readonly label: number | undefined; readonly labelName?: string } {
  if (label === undefined || label === null || label === "") return { label: undefined };
  if (isIndex(label)) return { label };
  if (typeof label === "string" || typeof label === "boolean") return { label: undefined, labelName: String(label) };
  throw fail("DATA_LABEL_INVALID", `label: expected a class index (0, 1, ...) or a name, got ${excerptOf(label)}`);
}

function isIndex(value: unknown): value is number {
  return Number.isInteger(value) && (value as number) >= 0 && (value as number) < 2 ** 32;
}

/** One object a line with `text` or `input_ids`, and optionally `label` and `id`. @throws DataError with file and line */
function readJsonl(source: JsonlFile, { firstIndex, labelled }: ReadOptions): ReadRow<ClassificationRow>[] {
  let index = firstIndex;
  return source.map(({ value, line, writtenNumber }) => {
    const { text, input_ids: inputIds, label, id: givenId } = value;
    const id = typeof givenId === "number" ? writtenNumber("id") : givenId;
    return toRow({ text, inputIds, label: labelled ? label : undefined, id }, source.file, line, index++);
  }, HINT);
}

/** Columns `text` or `input_ids` (a JSON list), and optionally `label` and `id`. @throws DataError with file and line */
function readCsv(csv: CsvFile, { firstIndex, labelled }: ReadOptions): ReadRow<ClassificationRow>[] {
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

function labelReader(csv: CsvFile, names: readonly string[]): LabelReader | undefined {
  const column = csv.column("label");
  if (column === undefined) return undefined;
  return (cells, line) => {
    const named = names.indexOf(cells[column]!.trim());
    const label = named >= 0 ? named : cells[column]!.trim() === "" ? Number.NaN : Number(cells[column]);
    if (Number.isInteger(label) && label >= 0) return label;
    const message = `label: expected a class index (0, 1, ...), got ${JSON.stringify(cells[column])}`;
    throw new DataError("DATA_LABEL_INVALID", message, { file: csv.file, line });
  };
}

/** Rows with `text` or `input_ids`, and `label`. */
export const classification: DataFormat<"classification", ClassificationRow> = {
  name: "classification",
  kinds: ["text", "ids"],
  columns: "text or input_ids, and label",
  labelColumns: "a column label",
  recognizes: (source) => source.type === "jsonl" || source.has("text") || source.has("input_ids"),
  read: (source, options) => ({
    rows: source.type === "jsonl" ? readJsonl(source, options) : readCsv(source, options),
  }),
  labelReader,
  fields: (row) => (row.kind === "text" ? row.text : row.inputIds),
};
