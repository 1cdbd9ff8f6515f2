/** Labels that are numbers: targets of a regression, and 0 or 1 for each label of a multi-label row. */
import { DataError } from "../../core/errors.ts";
import type { DataRecord, DataSource, ReadRow } from "../../core/plugin/data-format.ts";
import type { DataRow } from "./formats/index.ts";
import { excerptOf } from "./sources/json.ts";

/** Which labels are read, and what they may be. */
export interface LabelValues {
  /** One column for each value; none: the column label, which holds one value or a list of them. */
  readonly columns: readonly string[];
  /** Only 0 and 1; a list may hold names instead, those of the labels that the row has. */
  readonly binary: boolean;
  /** Names of the values, where they are known already. */
  readonly names?: readonly string[] | undefined;
}

/** What a row's cells hold before names have places. */
export type ReadValues = readonly number[] | readonly string[];

const LABEL = "label";
/** More names than this are no labels but texts that got into the column. */
const MAX_NAMES = 1000;
const HINT =
  "Name the columns with --label-columns: numbers, one column each, or one column that holds a list; without it they stand in label.";

/** Reads the values of a file's records. @throws DataError with file and line */
export function labelValueReader(
  source: DataSource,
  { columns: given, binary }: LabelValues,
): { readonly uses: readonly string[]; readonly read: (record: DataRecord) => ReadValues } {
  const { file } = source;
  const names = given.length === 0 ? [LABEL] : given;
  const missing = names.find((name) => !source.has(name));
  if (missing !== undefined) {
    const message = `column ${missing} is missing; found ${source.columns.join(", ")}`;
    throw new DataError("DATA_COLUMN_MISSING", message, { file, line: 1 }, { hint: HINT });
  }
  const columns = names.map((name) => source.nameOf(name));
  const valueOf = (record: DataRecord, column: string): unknown => {
    const value = record.value(column);
    return source.type === "csv" && typeof value === "string" ? cellValue(value) : value;
  };
  return {
    uses: columns,
    read: (record) =>
      parse(
        columns.map((column) => valueOf(record, column)),
        columns,
        binary,
        { file, line: record.line },
      ),
  };
}

/** A CSV cell: JSON where it is JSON, else as it stands. */
function cellValue(cell: string): unknown {
  const text = cell.trim();
  if (text === "") return undefined;
  try {
    return JSON.parse(/^(true|false)$/i.test(text) ? text.toLowerCase() : text);
  } catch {
    return text;
  }
}

function parse(
  values: readonly unknown[],
  columns: readonly string[],
  binary: boolean,
  at: { readonly file: string; readonly line: number },
): ReadValues {
  const [first] = values;
  const items: readonly unknown[] | undefined =
    columns.length === 1 && (Array.isArray(first) || ArrayBuffer.isView(first))
      ? Array.from(first as Iterable<unknown>)
      : undefined;
  if (binary && items !== undefined && items.length > 0 && items.every((item) => typeof item === "string"))
    return [...new Set(items)];
  return (items ?? values).map((value, i) => {
    const column = columns[items === undefined ? i : 0]!;
    if (value === undefined || value === null)
      throw new DataError("DATA_LABEL_MISSING", `the row has no ${column}`, at, { hint: HINT });
    const number = typeof value === "bigint" || (binary && typeof value === "boolean") ? Number(value) : value;
    if (typeof number === "number" && (binary ? number === 0 || number === 1 : Number.isFinite(number))) return number;
    const expected = binary ? "0 or 1 for each label, or a list of labels' names" : "a number";
    throw new DataError("DATA_LABEL_INVALID", `${column}: got ${excerptOf(value)}, expected ${expected}`, at, {
      hint: binary ? "A row has 0 or 1 in the column of each label, or a list of them." : HINT,
    });
  });
}

/** Rows with their values, and the values' names where columns or lists of names give them. @throws DataError */
export function withLabelValues(
  rows: readonly ReadRow<DataRow>[],
  values: readonly ReadValues[],
  { columns, names, binary }: LabelValues,
): { readonly rows: readonly DataRow[]; readonly labelNames: readonly string[] | undefined } {
  const allBlank = names !== undefined && values.every((list) => list.length === 0);
  const isNamed = binary && (allBlank || values.some((list) => typeof list[0] === "string"));
  const ofColumns = columns.length > 1 || (columns.length === 1 && values[0]?.length === 1) ? columns : undefined;
  const labelNames = isNamed ? (names ?? namesIn(rows, values)) : (ofColumns ?? names);
  const width = isNamed ? labelNames!.length : (values[0]?.length ?? 0);
  const labelled = rows.map((row, i): DataRow => {
    const { labelName: _, ...rest } = row;
    const list = values[i]!;
    return { ...rest, label: undefined, values: isNamed ? placed(row, list, labelNames!) : numbers(row, list, width) };
  });
  if (labelNames !== undefined && labelNames.length !== width) {
    const message = `got ${width} values, expected one for each of ${labelNames.join(", ")}`;
    throw new DataError("DATA_LABEL_INVALID", message, rows[0]!, { hint: HINT });
  }
  return { rows: labelled, labelNames };
}

function namesIn(rows: readonly ReadRow<DataRow>[], values: readonly ReadValues[]): readonly string[] {
  const names = new Set<string>();
  values.forEach((list, i) => {
    for (const name of list) names.add(String(name));
    if (names.size <= MAX_NAMES) return;
    throw new DataError("DATA_LABEL_INVALID", `more than ${MAX_NAMES} different names of labels`, rows[i]!, {
      hint: "Check that the column holds lists of labels.",
    });
  });
  return [...names].sort();
}

function placed(row: ReadRow<DataRow>, list: ReadValues, names: readonly string[]): number[] {
  const unknown = list.find((name) => !names.includes(String(name)));
  if (unknown !== undefined) {
    const known = names.map((name) => JSON.stringify(name)).join(", ");
    throw new DataError("DATA_LABEL_UNKNOWN", `got label ${JSON.stringify(unknown)}, expected some of ${known}`, row, {
      hint: "Label the row as those that the model was trained on.",
    });
  }
  return names.map((name) => ((list as readonly string[]).includes(name) ? 1 : 0));
}

function numbers(row: ReadRow<DataRow>, list: ReadValues, width: number): readonly number[] {
  if (list.length === width && width > 0) return list as readonly number[];
  throw new DataError("DATA_LABEL_INVALID", `got ${list.length} values, expected ${width || "one or more"}`, row, {
    hint: "Every row has as many as the first.",
  });
}
