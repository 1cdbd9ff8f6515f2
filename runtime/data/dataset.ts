import { createHash } from "node:crypto";
import { extname } from "node:path";
import { ConfigError, DataError } from "../../core/errors.ts";
import { ARENA_COLUMNS, readArena, TWO_WINNERS } from "./arena.ts";
import { type ClassNames, nameClasses, type ReadRow } from "./classes.ts";
import { readClassificationCsv, readClassificationJsonl } from "./classification.ts";
import { type CsvFile, openCsv } from "./csv.ts";
import { isText, type DataRow } from "./row.ts";
import { withSoftLabels } from "./soft-labels.ts";

export type { ArenaRow, DataRow, TextRow, TokenRow } from "./row.ts";

/** By what rows are dealt into folds. */
export type FoldBy = "index" | "id" | "hash";

export type DataFormat = "auto" | "arena" | "classification";

/** Rows in the order in which they are numbered. */
export type Dataset = {
  readonly files: readonly string[];
  readonly rows: readonly DataRow[];
  /** Names of the classes from 0 on, where labels are names. */
  readonly labelNames?: readonly string[] | undefined;
  /** Classes that the format gives: of labelled arena rows 3 with ties, 2 where no row may be one. */
  readonly classes?: number | undefined;
};

export type DataOptions = {
  /** Files to train on, concatenated in order. */
  readonly train: string | readonly string[];
  /** Files to evaluate on; without them a fold of `train` is held out where `nSplits` says so. */
  readonly evaluation?: string | readonly string[] | undefined;
  /** Default "auto": JSONL is classification, a CSV is told by its header. */
  readonly format?: DataFormat | undefined;
  /** Columns with the probability of each class, of training files in CSV. */
  readonly softLabelColumns?: readonly string[] | undefined;
  /** Rows whose number modulo `nSplits` equals `foldIdx` are held out for evaluation; see {@link splitFold}. */
  readonly nSplits?: number | undefined;
  readonly foldIdx?: number | undefined;
  /** Default "index". */
  readonly foldBy?: FoldBy | undefined;
  /** Number of classes; a label outside is an error. */
  readonly numLabels?: number | undefined;
};

/** How files are read. */
export type ReadOptions = Pick<DataOptions, "format" | "numLabels" | "softLabelColumns"> & {
  /** False: labels are not looked at, whatever stands there. Default true. */
  readonly labelled?: boolean | undefined;
  /** Classes of the data trained on; default: these files define them. */
  readonly labelNames?: ClassNames | undefined;
};

type FileRows = { readonly rows: readonly ReadRow[]; readonly classes?: number | undefined };
type FileOptions = { readonly format: DataFormat; readonly soft: readonly string[]; readonly labelled: boolean };

const JSONL = [".jsonl", ".ndjson", ".json"];

function readFile(file: string, firstIndex: number, options: FileOptions): FileRows {
  const { format, soft, labelled } = options;
  if (JSONL.includes(extname(file).toLowerCase())) {
    if (soft.length > 0) {
      throw new DataError(
        "DATA_FORMAT_UNKNOWN",
        "soft labels are columns of a CSV, got JSONL",
        { file },
        {
          hint: "Write the rows as CSV, or leave softLabelColumns out.",
        },
      );
    }
    if (format !== "arena") return { rows: readClassificationJsonl(file, firstIndex, labelled) };
    throw new DataError(
      "DATA_FORMAT_UNKNOWN",
      "an arena file is a CSV, got JSONL",
      { file },
      { hint: 'Use format "classification" or "auto".' },
    );
  }
  const csv = openCsv(file);
  const read = readCsv(csv, firstIndex, options);
  return soft.length === 0 ? read : { ...read, rows: withSoftLabels(csv, read.rows, soft) };
}

function readCsv(csv: CsvFile, firstIndex: number, { format, soft, labelled }: FileOptions): FileRows {
  const { file } = csv;
  const looksArena = ARENA_COLUMNS.every((name) => csv.column(name) !== undefined);
  if (format === "arena" || (format === "auto" && looksArena)) {
    // Winner columns that hold probabilities are no labels.
    return readArena(csv, firstIndex, labelled && !soft.some((name) => name.startsWith("winner_")));
  }
  const looksClassification = csv.column("text") !== undefined || csv.column("input_ids") !== undefined;
  if (format === "classification" || looksClassification)
    return { rows: readClassificationCsv(csv, firstIndex, labelled) };
  throw new DataError(
    "DATA_FORMAT_UNKNOWN",
    `the columns fit no known format; found ${csv.header.join(", ")}`,
    { file, line: 1 },
    { hint: `Arena files have ${ARENA_COLUMNS.join(", ")}; classification files have text or input_ids, and label.` },
  );
}

/**
 * Reads and concatenates data files.
 * @throws DataError with file and line where a row cannot be used or there is none; ConfigError without files
 */
export function loadDataset(files: string | readonly string[], options: ReadOptions = {}): Dataset {
  const list = typeof files === "string" ? [files] : files;
  if (list.length === 0)
    throw new ConfigError("DATA_NO_FILES", "no data files are given", { hint: "Name at least one CSV or JSONL file." });
  const { format = "auto", softLabelColumns: soft = [], labelled = true } = options;
  const read: ReadRow[] = [];
  let classes: number | undefined;
  for (const file of list) {
    const part = readFile(file, read.length, { format, soft, labelled });
    for (const row of part.rows) read.push(row);
    if (part.classes !== undefined) classes = Math.max(classes ?? 0, part.classes);
  }
  const named = soft.length === 0 ? undefined : read.find((row) => row.labelName !== undefined);
  if (named !== undefined) {
    throw new DataError("DATA_LABEL_INVALID", `label: got the name ${JSON.stringify(named.labelName)}`, named, {
      hint: "Beside softLabelColumns, a label is the index of its class: their order says which is which.",
    });
  }
  // An arena without ties has classes of its own: a model of any other two classes must not be taken for one of it.
  const given = options.labelNames ?? (classes === 2 ? TWO_WINNERS : undefined);
  const { rows, labelNames } = nameClasses(read, given);
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

/**
 * Loads what a run trains and evaluates on. `evaluation` is undefined without evaluation files and without `nSplits`.
 * @param labelNames classes that are known already; default: the training files define them
 * @throws DataError, ConfigError
 */
export function loadData(
  options: DataOptions,
  labelNames?: ClassNames,
): { readonly train: Dataset; readonly evaluation: Dataset | undefined } {
  const { nSplits, foldIdx } = options;
  if (options.evaluation !== undefined && nSplits !== undefined) {
    throw new ConfigError("DATA_SPLIT", "evaluation files and nSplits exclude each other", {
      hint: "Give one of the two.",
    });
  }
  if (nSplits === undefined && foldIdx !== undefined) throw new ConfigError("DATA_SPLIT", "foldIdx needs nSplits");
  const all = requireLabels(loadDataset(options.train, { ...options, labelNames }));
  if (options.evaluation !== undefined) {
    const read = { ...options, softLabelColumns: [], labelNames: all.labelNames ?? "numbers" } as const;
    return { train: all, evaluation: requireLabels(loadDataset(options.evaluation, read)) };
  }
  if (nSplits === undefined) return { train: all, evaluation: undefined };
  return splitFold(all, nSplits, foldIdx ?? 0, options.foldBy);
}

/**
 * Splits rows: those whose number modulo `nSplits` is `foldIdx` are evaluation, the rest training. The number is the row's
 * position, its id (a whole number), or the first four bytes of the id's sha256; by the last two, rows of one id never part.
 * @throws ConfigError, DataError
 */
export function splitFold(
  dataset: Dataset,
  nSplits: number,
  foldIdx: number,
  foldBy: FoldBy = "index",
): { readonly train: Dataset; readonly evaluation: Dataset } {
  if (!Number.isInteger(nSplits) || nSplits < 2)
    throw new ConfigError("DATA_SPLIT", `nSplits: expected a whole number of at least 2, got ${nSplits}`);
  if (!Number.isInteger(foldIdx) || foldIdx < 0 || foldIdx >= nSplits) {
    throw new ConfigError("DATA_SPLIT", `foldIdx: expected 0..${nSplits - 1}, got ${foldIdx}`);
  }
  const part = (held: boolean): Dataset => ({
    ...dataset,
    rows: dataset.rows.filter((row, index) => (foldNumber(row, index, foldBy) % nSplits === foldIdx) === held),
  });
  const [train, evaluation] = [part(false), part(true)];
  if (train.rows.length === 0 || evaluation.rows.length === 0) {
    const empty = train.rows.length === 0 ? "training" : "evaluation";
    throw new DataError(
      "DATA_EMPTY",
      `fold ${foldIdx} of ${nSplits} leaves no ${empty} rows out of ${dataset.rows.length}`,
      { file: dataset.files.join(", ") },
    );
  }
  return { train, evaluation };
}

function foldNumber(row: DataRow, index: number, foldBy: FoldBy): number {
  if (foldBy === "index") return index;
  if (foldBy === "hash") return createHash("sha256").update(row.id).digest().readUInt32BE(0);
  const id = /^\d+$/.test(row.id) ? Number(row.id) : Number.NaN;
  if (Number.isSafeInteger(id)) return id;
  throw new DataError("DATA_ID_INVALID", `foldBy id: expected a whole number, got ${JSON.stringify(row.id)}`, row, {
    hint: 'Use foldBy "hash" for ids of other kinds.',
  });
}

/** The dataset itself, once every row is seen to have a label. @throws DataError naming the first row without */
export function requireLabels(dataset: Dataset): Dataset {
  const bare = dataset.rows.find((row) => row.label === undefined);
  if (bare === undefined) return dataset;
  throw new DataError("DATA_LABEL_MISSING", "the row has no label", bare, {
    hint: "Training and evaluation need a label column (classification) or the winner columns (arena).",
  });
}

/** Two sha256 (hex): of what is tokenized, and of all that training sees. */
export type DatasetDigest = { readonly contents: string; readonly all: string };

/** Digests of the rows in order: `contents` of their texts or input_ids, `all` of ids and labels as well. */
export function digestDataset(dataset: Dataset): DatasetDigest {
  const hash = createHash("sha256");
  for (const row of dataset.rows) {
    // Every part is preceded by its length, so that no two datasets feed the same bytes.
    const fields = isText(row) ? (row.kind === "text" ? [row.text] : [row.prompt, row.responseA, row.responseB]) : [];
    hash.update(`${row.kind},${isText(row) ? fields.map((field) => field.length).join(",") : row.inputIds.length},`);
    for (const field of fields) hash.update(field);
    if (!isText(row)) hash.update(row.inputIds);
  }
  const contents = hash.digest("hex");
  const all = createHash("sha256").update(contents);
  if (dataset.labelNames !== undefined) all.update(JSON.stringify(dataset.labelNames));
  for (const { id, label, soft } of dataset.rows)
    all.update(`${label ?? ""},${id.length},${id}${soft === undefined ? "" : `,${soft.join(" ")}`}`);
  return { contents, all: all.digest("hex") };
}

/** sha256 (hex) over ids, contents, labels and order: two datasets with one fingerprint train the same. */
export function fingerprintDataset(dataset: Dataset): string {
  return digestDataset(dataset).all;
}
