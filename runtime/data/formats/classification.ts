/** Texts, or token ids made elsewhere, and the class of each. */
import { DataError } from "../../../core/errors.ts";
import type {
  BaseRow,
  DataFormat,
  DataRecord,
  DataSource,
  LabelReader,
  ReadOptions,
  ReadRow,
  RowReader,
} from "../../../core/plugin/data-format.ts";
import { excerptOf } from "../sources/json.ts";
import type { Turn } from "../../../core/plugin/template.ts";
import { rowId } from "./row-id.ts";
import { joinTurns, readTurns } from "./turns.ts";
import { requireColumn } from "./winner.ts";

/** A text to classify. */
export type TextRow = BaseRow & {
  readonly kind: "text";
  readonly text: string;
  /** The same, turn by turn, where the file has a list. */
  readonly turns?: readonly Turn[] | undefined;
};

/** Token ids made elsewhere; taken as they are, without added specials. */
export type TokenRow = BaseRow & { readonly kind: "ids"; readonly inputIds: Uint32Array };

type ClassificationRow = TextRow | TokenRow;

const HINT =
  "A row has text (a string, or a list of turns or messages) or input_ids (a list of token ids), for training label (a class index from 0, or a class's name), and optionally id.";

type Fail = (code: string, message: string) => DataError;

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

/** `text` or `input_ids` (in CSV a JSON list), and optionally `label` and `id`. @throws DataError with file and line */
function reader(source: DataSource, { labelled }: ReadOptions): RowReader<ClassificationRow> {
  const { file, type } = source;
  if (type !== "json" && !source.has("text") && !source.has("input_ids")) {
    if (source.nameOf("text") !== "text") requireColumn(source, "text", HINT);
    const message = `column text or input_ids is missing; found ${source.columns.join(", ")}`;
    throw new DataError("DATA_COLUMN_MISSING", message, { file, line: 1 }, { hint: HINT });
  }
  const typed = (record: DataRecord, name: string): unknown =>
    type === "csv" ? parseCell(record.value(name) as string | undefined) : record.value(name);
  const labelOf = (record: DataRecord): unknown => {
    if (!labelled) return undefined;
    if (type !== "csv") return record.value("label");
    const value = typed(record, "label");
    return typeof value === "number" ? value : (record.value("label") as string | undefined)?.trim();
  };
  const read = (record: DataRecord, position: number): ReadRow<ClassificationRow> => {
    const { line } = record;
    const fail: Fail = (code, message) => new DataError(code, message, { file, line }, { hint: HINT });
    const [text, ids] = [record.value("text"), typed(record, "input_ids")];
    const origin = { id: rowId(source, record, position), file, line, ...rowLabel(labelOf(record), fail) };
    if (text !== undefined && ids !== undefined)
      throw fail("DATA_CELL_INVALID", "the row has both text and input_ids; keep one");
    if (typeof text === "string") return { ...origin, kind: "text", text: text.toWellFormed() };
    if (isTurnList(text)) {
      const turns = readTurns(record, "text", "texts", source);
      return { ...origin, kind: "text", text: joinTurns(turns), turns };
    }
    if (text !== undefined) throw fail("DATA_CELL_INVALID", `text: expected a string, got ${excerptOf(text)}`);
    if (ids === undefined) throw fail("DATA_COLUMN_MISSING", "the row has neither text nor input_ids");
    if (!Array.isArray(ids) || ids.length === 0 || !ids.every(isIndex))
      throw fail("DATA_CELL_INVALID", `input_ids: expected a non-empty list of token ids, got ${excerptOf(ids)}`);
    return { ...origin, kind: "ids", inputIds: Uint32Array.from(ids) };
  };
  return { uses: ["text", "input_ids", "label", "id"], read };
}

/** A list of strings, or of messages. */
const isTurnList = (value: unknown): boolean =>
  Array.isArray(value) &&
  value.length > 0 &&
  value.every(
    (item) => typeof item === "string" || (typeof item === "object" && item !== null && !Array.isArray(item)),
  );

/** A cell read as JSON; what is no JSON stays text, so that the check that follows can show it. */
function parseCell(cell: string | undefined): unknown {
  if (cell === undefined) return undefined;
  try {
    return JSON.parse(cell);
  } catch {
    return cell;
  }
}

function labelReader(source: DataSource, names: readonly string[]): LabelReader | undefined {
  if (!source.has("label")) return undefined;
  return (record) => {
    const value = record.value("label");
    const text = typeof value === "string" ? value.trim() : typeof value === "boolean" ? String(value) : undefined;
    const named = text === undefined ? -1 : names.indexOf(text);
    const label = named >= 0 ? named : text === "" ? Number.NaN : Number(text ?? value ?? Number.NaN);
    if (Number.isInteger(label) && label >= 0) return label;
    const message = `label: expected a class index (0, 1, ...), got ${excerptOf(value)}`;
    throw new DataError("DATA_LABEL_INVALID", message, { file: source.file, line: record.line });
  };
}

/** Rows with `text` or `input_ids`, and `label`. */
export const classification: DataFormat<"classification", ClassificationRow> = {
  name: "classification",
  kinds: ["text", "ids"],
  columns: "text or input_ids, and label",
  columnNames: ["id", "text", "input_ids", "label"],
  labelColumns: "a column label",
  recognizes: (source) => source.type === "json" || source.has("text") || source.has("input_ids"),
  reader,
  labelReader,
  fields: (row) => (row.kind === "text" ? row.text : row.inputIds),
};
