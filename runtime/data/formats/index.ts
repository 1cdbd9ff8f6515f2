/** The data formats that the option `format` names, and the format of a row. */
import { DataError } from "../../../core/errors.ts";
import type { BaseRow, DataFormat, DataSource, FixedClasses } from "../../../core/plugin/data-format.ts";
import { arena } from "./arena.ts";
import { classification } from "./classification.ts";

/** In the order in which they are asked whether they recognize a file. */
export const dataFormats = [arena, classification] as const;

type ListedFormat = (typeof dataFormats)[number];
type RowOf<F> = F extends DataFormat<string, infer Row> ? Row : never;

/** Value of the option `format`, beside "auto". */
export type FormatName = ListedFormat["name"];

/** A row of data, of any format; `kind` tells a text, token ids and an arena comparison apart. */
export type DataRow = RowOf<ListedFormat>;

const byKind: ReadonlyMap<string, DataFormat> = new Map(
  dataFormats.flatMap((format: DataFormat) => format.kinds.map((kind) => [kind, format] as const)),
);

/** The format that a row is of. */
export function formatOf({ kind }: Pick<BaseRow, "kind">): DataFormat {
  const format = byKind.get(kind);
  if (format !== undefined) return format;
  throw new RangeError(`no data format has rows of the kind ${JSON.stringify(kind)}`);
}

/** The format of that name, as a config or a run's record has it; undefined for "auto" and for what is none. */
export function findFormat(name: unknown): DataFormat | undefined {
  return dataFormats.find((format) => format.name === name);
}

/** The classes that the rows' format gives; undefined where the labels define them. A dataset has one such format at most. */
export function fixedClasses(rows: readonly BaseRow[]): FixedClasses | undefined {
  for (const row of rows) {
    const { classes } = formatOf(row);
    if (classes !== undefined) return classes;
  }
  return undefined;
}

/** `Arena files have columns ...; classification files have ...`. */
function describeFiles(formats: readonly DataFormat[]): string {
  const text = formats.map(({ name, columns }) => `${name} files have ${columns}`).join("; ");
  return `${text.charAt(0).toUpperCase()}${text.slice(1)}.`;
}

/** The format of a file: the one that is named, else the first that recognizes it. @throws DataError where none does */
export function chooseFormat(source: DataSource, name: FormatName | "auto"): DataFormat {
  const format = dataFormats.find((each) => (name === "auto" ? each.recognizes(source) : each.name === name));
  if (format !== undefined) return format;
  throw new DataError(
    "DATA_FORMAT_UNKNOWN",
    `the columns fit no known format; found ${source.columns.join(", ")}`,
    { file: source.file, line: 1 },
    { hint: `${describeFiles(dataFormats)} Columns of other names are named by --columns.prompt question, and so on.` },
  );
}

/** Names of columns that formats ask for, which the option `columns` maps to a file's. */
export const columnNames: readonly string[] = [
  ...new Set(dataFormats.flatMap((format: DataFormat) => format.columnNames)),
];

/** @throws DataError for the first row of a format that `part` cannot work with */
export function requireFormat(rows: readonly BaseRow[], part: string, serves: (format: DataFormat) => boolean): void {
  const other = rows.find((row) => !serves(formatOf(row)));
  if (other === undefined) return;
  const able = dataFormats.filter(serves);
  const names = able.map(({ name }) => name).join(" or ");
  throw new DataError("DATA_FORMAT_UNFIT", `${part} needs ${names} rows, this one is ${other.kind}`, other, {
    hint: describeFiles(able),
  });
}
