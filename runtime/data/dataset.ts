/** Reading data files, of whichever format, into the rows that a run trains and evaluates on. */
import { ConfigError, DataError } from "../../core/errors.ts";
import { openCsv } from "./csv.ts";
import type { DataFormat, ReadRow } from "./formats/format.ts";
import { chooseFormat, type DataRow, dataFormats, type FormatName } from "./formats/index.ts";
import { isJsonl, openJsonl } from "./jsonl.ts";
import { type ClassNames, nameClasses } from "./label-encoder.ts";
import { withSoftLabels } from "./soft-labels.ts";

/** Rows in the order in which they are numbered. */
export type Dataset = {
  readonly files: readonly string[];
  readonly rows: readonly DataRow[];
  /** Names of the classes from 0 on, where labels are names. */
  readonly labelNames?: readonly string[] | undefined;
  /** Number of classes that the format gives labelled files: of arena rows 3 with ties, 2 where no row may be one. */
  readonly classes?: number | undefined;
};

/** How files are read. */
export type LoadOptions = {
  /** Default "auto": the first format that recognizes the file. */
  readonly format?: FormatName | "auto" | undefined;
  /** Number of classes; a label outside is an error. */
  readonly numLabels?: number | undefined;
  /** Columns with the probability of each class, of files in CSV. */
  readonly softLabelColumns?: readonly string[] | undefined;
  /** False: labels are not read, whatever the files have. Default true. */
  readonly labelled?: boolean | undefined;
  /** Classes of the data trained on; default: these files define them. */
  readonly labelNames?: ClassNames | undefined;
};

type FileRows = {
  readonly format: DataFormat;
  readonly rows: readonly ReadRow<DataRow>[];
  readonly classes?: number | undefined;
};
type FileOptions = {
  readonly format: FormatName | "auto";
  readonly softLabelColumns: readonly string[];
  readonly labelled: boolean;
};

function readFile(
  file: string,
  firstIndex: number,
  { format: name, softLabelColumns, labelled }: FileOptions,
): FileRows {
  const jsonl = isJsonl(file);
  if (jsonl && softLabelColumns.length > 0) {
    throw new DataError(
      "DATA_FORMAT_UNKNOWN",
      "soft labels are columns of a CSV, got JSONL",
      { file },
      { hint: "Write the rows as CSV, or leave softLabelColumns out." },
    );
  }
  const source = jsonl ? openJsonl(file) : openCsv(file);
  const format: DataFormat = chooseFormat(source, name);
  const read = format.read(source, { firstIndex, labelled, softLabelColumns });
  // Every listed format's rows are of DataRow.
  const rows = read.rows as readonly ReadRow<DataRow>[];
  if (softLabelColumns.length === 0 || source.type === "jsonl") return { ...read, format, rows };
  return { ...read, format, rows: withSoftLabels(source, rows, softLabelColumns) };
}

/** The format whose classes those of a dataset are, once a file of another such format is refused. @throws DataError */
function sharedFormat(known: DataFormat | undefined, format: DataFormat, file: string): DataFormat | undefined {
  if (format.classes === undefined) return known;
  if (known === undefined || known === format) return format;
  const message = `got ${format.name} rows after ${known.name} rows, whose classes are others`;
  throw new DataError("DATA_FORMATS_MIXED", message, { file }, { hint: "Train on files of one format." });
}

/**
 * Reads and concatenates data files.
 * @throws DataError with file and line where a row cannot be used or there is none; ConfigError without files
 */
export function loadDataset(files: string | readonly string[], options: LoadOptions = {}): Dataset {
  const list = typeof files === "string" ? [files] : files;
  if (list.length === 0)
    throw new ConfigError("DATA_NO_FILES", "no data files are given", { hint: "Name at least one CSV or JSONL file." });
  const { format = "auto", softLabelColumns = [], labelled = true } = options;
  const read: ReadRow<DataRow>[] = [];
  let classes: number | undefined;
  let fixed: DataFormat | undefined;
  for (const file of list) {
    const part = readFile(file, read.length, { format, softLabelColumns, labelled });
    fixed = sharedFormat(fixed, part.format, file);
    for (const row of part.rows) read.push(row);
    if (part.classes !== undefined) classes = Math.max(classes ?? 0, part.classes);
  }
  const named = softLabelColumns.length === 0 ? undefined : read.find((row) => row.labelName !== undefined);
  if (named !== undefined) {
    throw new DataError("DATA_LABEL_INVALID", `label: got the name ${JSON.stringify(named.labelName)}`, named, {
      hint: "Beside softLabelColumns, a label is the index of its class: their order says which is which.",
    });
  }
  // Fewer classes than the format has are named: a model of any other two must not be taken for one of an arena without ties.
  const columns = fixed?.classes?.columns ?? [];
  const fewer = classes !== undefined && classes < columns.length ? columns.slice(0, classes) : undefined;
  const { rows, labelNames } = nameClasses(read, options.labelNames ?? fewer);
  if (rows.length === 0) throw new DataError("DATA_EMPTY", "the data has no rows", { file: list.join(", ") });
  const { numLabels } = options;
  const outside =
    numLabels === undefined ? undefined : rows.find((row) => row.label !== undefined && row.label >= numLabels);
  if (outside !== undefined) {
    throw new DataError("DATA_LABEL_INVALID", `label ${outside.label} is outside 0..${numLabels! - 1}`, outside, {
      hint: "Set numLabels to the number of classes in the data.",
    });
  }
  return { files: list, rows, ...(labelNames && { labelNames }), ...(classes && { classes }) };
}

/** The dataset itself, once every row is seen to have a label. @throws DataError naming the first row without */
export function requireLabels(dataset: Dataset): Dataset {
  const bare = dataset.rows.find((row) => row.label === undefined);
  if (bare === undefined) return dataset;
  throw new DataError("DATA_LABEL_MISSING", "the row has no label", bare, {
    hint: `Training and evaluation need ${dataFormats.map(({ name, labelColumns }) => `${labelColumns} (${name})`).join(" or ")}.`,
  });
}
