/** Reading data files, of whichever kind and format, into the rows that a run trains and evaluates on. */
import { ConfigError, DataError } from "../../core/errors.ts";
import type { DataFormat, DataRecord, DataSource, ReadOptions, ReadRow } from "../../core/plugin/data-format.ts";
import type { Template } from "../../core/plugin/template.ts";
import { chooseFormat, type DataRow, dataFormats, type FormatName } from "./formats/index.ts";
import { type ClassNames, nameClasses } from "./label-encoder.ts";
import { labelValueReader, type LabelValues, type ReadValues, withLabelValues } from "./label-values.ts";
import { softLabelReader, weightReader } from "./row-numbers.ts";
import { expandFiles } from "./sources/files.ts";
import type { DataFile } from "./sources/data-file.ts";
import { withRecords } from "./sources/open.ts";
import { type ColumnMap, describeSource, namedRecord, type RecordFile } from "./sources/records.ts";

/** Rows in the order in which they are numbered. */
export type Dataset = {
  readonly files: readonly string[];
  readonly rows: readonly DataRow[];
  /** Names of the classes from 0 on, where labels are names. */
  readonly labelNames?: readonly string[] | undefined;
  /** Number of classes that the format gives labelled files: of arena rows 3 with ties, 2 where no row may be one. */
  readonly classes?: number | undefined;
  /** Comparisons that were left out as ties, of pairs for a reward model. */
  readonly ties?: number | undefined;
  /** What makes texts of the rows; undefined: their format. */
  readonly template?: Template | undefined;
};

/** How the columns of files are read. */
export type ColumnOptions = {
  /** Default "auto": the first format that recognizes the file. */
  readonly format?: FormatName | "auto" | undefined;
  /** Columns with the probability of each class. */
  readonly softLabelColumns?: readonly string[] | undefined;
  /** The column that says how much a row counts in the loss. */
  readonly weightColumn?: string | undefined;
  /** True: files without that column are read too. */
  readonly weightOptional?: boolean | undefined;
  /** A format's names of columns to the files' own. */
  readonly columns?: ColumnMap | undefined;
  /** Names of the classes from 0 on, as the option `labelNames` gives them. */
  readonly givenNames?: readonly string[] | undefined;
  /** Draws which side the chosen answer of a pair is. Default 42. */
  readonly sideSeed?: number | undefined;
};

/** How files are read. */
export type LoadOptions = ColumnOptions & {
  /** Number of classes; a label outside is an error. */
  readonly numLabels?: number | undefined;
  /** False: labels are not read, whatever the files have. Default true. */
  readonly labelled?: boolean | undefined;
  /** The split of a dataset of the hub that has several, where its name says none. */
  readonly defaultSplit?: string | undefined;
  /** Classes of the data trained on; default: these files define them. */
  readonly labelNames?: ClassNames | undefined;
  /** Labels are numbers or sets, no classes. */
  readonly values?: LabelValues | undefined;
};

type FileRows = { readonly format: DataFormat; readonly classes: number | undefined };
type FileOptions = ReadOptions &
  Required<Pick<ColumnOptions, "format" | "columns">> &
  Pick<ColumnOptions, "weightColumn" | "weightOptional"> & {
    /** Undefined: labels are classes, or not read. */
    readonly values: LabelValues | undefined;
  };

/** Records that are decoded at a time, and looked at to tell what a file holds. */
const BATCH_RECORDS = 1000;

/** Reads a file's rows into `rows`, batch by batch. */
async function readFile(
  file: DataFile,
  options: FileOptions,
  rows: ReadRow<DataRow>[],
  values: ReadValues[],
): Promise<FileRows> {
  return withRecords(file, async (records) => {
    let read: BatchReader | undefined;
    for await (const batch of records.batches(BATCH_RECORDS)) {
      read ??= openBatches(records, file.name, batch, options);
      for (const record of batch) {
        rows.push(read.row(record, rows.length));
        if (read.values !== undefined) values.push(read.values(record));
      }
    }
    read ??= openBatches(records, file.name, [], options);
    return { format: read.format, classes: read.classes() };
  });
}

/**
 * Goes through the records of files without making rows of them.
 * @param open told of each file, what takes its records
 * @throws DataError with file and line
 */
export async function eachRecord(
  name: string,
  open: (source: DataSource) => (record: DataRecord) => void,
): Promise<void> {
  for (const file of await expandFiles([name])) {
    await withRecords(file, async (records) => {
      let take: ReturnType<typeof open> | undefined;
      for await (const batch of records.batches(BATCH_RECORDS)) {
        take ??= open(describeSource(records, file.name, batch, {}));
        batch.forEach(take);
      }
      if (take === undefined) open(describeSource(records, file.name, [], {}));
    });
  }
}

interface BatchReader {
  readonly format: DataFormat;
  readonly row: (record: DataRecord, position: number) => ReadRow<DataRow>;
  readonly values: ((record: DataRecord) => ReadValues) | undefined;
  readonly classes: () => number | undefined;
}

/** @param first the file's first records */
function openBatches(
  records: RecordFile,
  file: string,
  first: readonly DataRecord[],
  options: FileOptions,
): BatchReader {
  const { columns, softLabelColumns, weightOptional } = options;
  const source = describeSource(
    records,
    file,
    first.map((record) => namedRecord(record, columns)),
    columns,
  );
  const weighted =
    options.weightColumn !== undefined && !(weightOptional === true && !source.columns.includes(options.weightColumn));
  const weightColumn = weighted ? options.weightColumn : undefined;
  const format = chooseFormat(source, options.format);
  const wanted = options.values;
  const reader = format.reader(source, { ...options, labelled: options.labelled && wanted === undefined });
  const values = wanted === undefined ? undefined : labelValueReader(source, wanted);
  const soft = softLabelColumns.length === 0 ? undefined : softLabelReader(source, softLabelColumns);
  const weight = weightColumn === undefined ? undefined : weightReader(source, weightColumn);
  const used = new Set([
    ...reader.uses.map((name) => source.nameOf(name)),
    ...softLabelColumns,
    ...(values?.uses ?? []),
    ...(weightColumn === undefined ? [] : [weightColumn]),
  ]);
  const row = (record: DataRecord, position: number): ReadRow<DataRow> => {
    // Every listed format's rows are of DataRow.
    const own = reader.read(namedRecord(record, columns), position) as ReadRow<DataRow>;
    const probabilities = soft?.(record);
    const extra = extraOf(record, used);
    return {
      ...own,
      ...(probabilities && {
        soft: probabilities,
        label: own.label ?? probabilities.indexOf(Math.max(...probabilities)),
      }),
      ...(weight && { weight: weight(record) }),
      ...(extra && { extra }),
    };
  };
  return { format, row, values: values?.read, classes: () => reader.classes?.() };
}

/** Columns that nothing else reads; undefined where there are none. */
function extraOf(record: DataRecord, used: ReadonlySet<string>): Readonly<Record<string, unknown>> | undefined {
  let extra: Record<string, unknown> | undefined;
  for (const name of record.columns) if (!used.has(name)) (extra ??= {})[name] = record.value(name);
  return extra;
}

/** The format whose classes those of a dataset are, once a file of another such format is refused. @throws DataError */
function sharedFormat(known: DataFormat | undefined, format: DataFormat, file: string): DataFormat | undefined {
  if (format.classes === undefined) return known;
  if (known === undefined || known === format) return format;
  const message = `got ${format.name} rows after ${known.name} rows, whose classes are others`;
  throw new DataError("DATA_FORMATS_MIXED", message, { file }, { hint: "Train on files of one format." });
}

/**
 * Reads and concatenates data files: CSV, JSON, JSONL and Parquet, in gzip or zip or by themselves, folders and patterns of them.
 * @throws DataError with file and line where a row cannot be used or there is none; ConfigError without files
 */
export async function loadDataset(files: string | readonly string[], options: LoadOptions = {}): Promise<Dataset> {
  const list = typeof files === "string" ? [files] : files;
  if (list.length === 0)
    throw new ConfigError("DATA_NO_FILES", "no data files are given", {
      hint: "Name at least one file of rows: CSV, JSON, JSONL or Parquet.",
    });
  const {
    format = "auto",
    softLabelColumns = [],
    labelled = true,
    givenNames = [],
    columns = {},
    sideSeed = 42,
  } = options;
  const { weightColumn, weightOptional } = options;
  const reading = {
    format,
    softLabelColumns,
    labelled,
    labelNames: givenNames,
    columns,
    weightColumn,
    weightOptional,
    sideSeed,
    values: labelled ? options.values : undefined,
  };
  const values: ReadValues[] = [];
  const read: ReadRow<DataRow>[] = [];
  let classes: number | undefined;
  let fixed: DataFormat | undefined;
  for (const file of await expandFiles(list, options.defaultSplit)) {
    const part = await readFile(file, reading, read, values);
    fixed = sharedFormat(fixed, part.format, file.name);
    if (part.classes !== undefined) classes = Math.max(classes ?? 0, part.classes);
  }
  if (reading.values !== undefined && read.length > 0)
    return { files: list, ...withLabelValues(read, values, reading.values) };
  const named = softLabelColumns.length === 0 ? undefined : read.find((row) => row.labelName !== undefined);
  if (named !== undefined) {
    throw new DataError("DATA_LABEL_INVALID", `label: got the name ${JSON.stringify(named.labelName)}`, named, {
      hint: "Beside softLabelColumns, a label is the index of its class: their order says which is which.",
    });
  }
  // Fewer classes than the format has are named: a model of any other two must not be taken for one of an arena without ties.
  const classColumns = fixed?.classes?.columns ?? [];
  const fewer = classes !== undefined && classes < classColumns.length ? classColumns.slice(0, classes) : undefined;
  const own = fixed === undefined && givenNames.length > 0 ? givenNames : fewer;
  const { rows, labelNames } = nameClasses(read, options.labelNames ?? own);
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
  const bare = dataset.rows.find((row) => row.label === undefined && row.values === undefined);
  if (bare === undefined) return dataset;
  throw new DataError("DATA_LABEL_MISSING", "the row has no label", bare, {
    hint: `Training and evaluation need ${dataFormats.map(({ name, labelColumns }) => `${labelColumns} (${name})`).join(" or ")}; columns of other names are named by --columns.`,
  });
}
