/** What a data format is: rows of files, whatever kind of file holds them, and what becomes of them. */

/** What the rows of every format have. */
export type BaseRow = {
  /** Tells rows of one format from those of the others. */
  readonly kind: string;
  /** The file's own `id`, or the row's position after concatenation where it has none. */
  readonly id: string;
  readonly file: string;
  /** 1-based: the line of the row's first line in `file`; in Parquet the row's number. */
  readonly line: number;
  /** Class index; undefined in prediction files. */
  readonly label: number | undefined;
  /** Probability of each class, where the file gives them to train on. */
  readonly soft?: readonly number[] | undefined;
  /** How much the row counts in the loss, where data.weightColumn gives it. */
  readonly weight?: number | undefined;
  /** Columns that the format leaves alone, by their names; whole numbers that a double would round are BigInt. */
  readonly extra?: Readonly<Record<string, unknown>> | undefined;
  /** Of a task without classes: what each output should be, or 0 and 1 for each label. */
  readonly values?: readonly number[] | undefined;
};

/** A row as a format reads it: a label that is no index from 0 is still a name. */
export type ReadRow<Row extends BaseRow = BaseRow> = Row & { readonly labelName?: string };

/** One record of a file: a line of a CSV, an object of JSON, a row of Parquet. */
export interface DataRecord {
  /** 1-based; of Parquet the row's number. */
  readonly line: number;
  /** Columns that the record has. */
  readonly columns: Iterable<string>;
  /** A column's value; a text in CSV, what is written in JSON and Parquet; undefined where there is none. */
  value(column: string): unknown;
  /** A column's string, or its number as it is written (a double rounds ids of 16 digits and more); undefined for anything else. */
  text(column: string): string | undefined;
}

/** A file of records. */
export interface DataSource {
  /** In "csv", every value is a text. */
  readonly type: "csv" | "json" | "parquet";
  /** The file's name, for messages. */
  readonly file: string;
  /** The file's own names of its columns. */
  readonly columns: readonly string[];
  /** First records, to tell what the file holds. */
  readonly sample: readonly DataRecord[];
  /** Whether there is a column of that name (or one that the option `columns` calls so). */
  has(column: string): boolean;
  /** The file's own name of a column that the option `columns` renames. */
  nameOf(column: string): string;
}

/** How a file is read. */
export type ReadOptions = {
  /** False: labels are not read, whatever the file has. */
  readonly labelled: boolean;
  /** Columns that are read as soft labels, and so are no labels. */
  readonly softLabelColumns: readonly string[];
  /** Names of the classes from 0 on, as data.labelNames gives them; empty where the file says. */
  readonly labelNames: readonly string[];
  /** Draws the side of an answer where the file does not say. */
  readonly sideSeed: number;
};

/** Reads the records of one file. */
export interface RowReader<Row extends BaseRow = BaseRow> {
  /** Columns that become parts of the row; the others are its `extra`. */
  readonly uses: readonly string[];
  /** @param position the row's, after concatenation @throws DataError with file and line */
  read(record: DataRecord, position: number): ReadRow<Row>;
  /** Number of classes once all records are read, where the format's classes are fixed and the file is labelled. */
  classes?(): number | undefined;
}

/** Reads the class of a record. @throws DataError */
export type LabelReader = (record: DataRecord) => number;

/** Texts of a comparison, which truncation budgets apart. */
export type ComparisonFields<T = string> = readonly [prompt: T, responseA: T, responseB: T];

/** A row seen from the other side: its two responses exchanged. */
export interface Mirror<Row extends BaseRow = BaseRow> {
  /** The row with its texts exchanged; its labels are exchanged by `labels`. */
  row(row: Row): Row;
  /** The class that each class becomes; applied twice it changes nothing. */
  readonly labels: readonly number[];
}

/** Classes that are the same for every file of a format. */
export interface FixedClasses<Row extends BaseRow = BaseRow> {
  /** For people, in reports. */
  readonly names: readonly string[];
  /** Columns of a file of probabilities, such as a submission; names of the classes where data has fewer than all. */
  readonly columns: readonly string[];
  /** Fewest classes that data may have: the last may be missing. */
  readonly min: number;
  /** What a model must have, in words: every class, or perhaps not the last. */
  readonly expected: { readonly all: string; readonly some: string };
  /** A warning about classes that no training row has; undefined where there is none. */
  missing(seen: ReadonlySet<number | undefined>, numLabels: number): string | undefined;
  /** Needed by swapAugment and by test-time augmentation. */
  readonly mirror?: Mirror<Row>;
}

/**
 * A data format. The option `format`, reading of every kind of file, tokenizing, truncation, fingerprints, augmentation,
 * submissions and reports follow from its members.
 */
export interface DataFormat<Name extends string = string, Row extends BaseRow = BaseRow> {
  /** Value of the option `format`. */
  readonly name: Name;
  /** Kinds of its rows; no other format has them. */
  readonly kinds: readonly Row["kind"][];
  /** Columns of a file, for help and for errors ("Arena files have ..."). */
  readonly columns: string;
  /** Names that the option `columns` may map to those of a file. */
  readonly columnNames: readonly string[];
  /** Columns of the labels, for errors ("... need the winner columns"). */
  readonly labelColumns: string;
  /** Whether the file is of this format; asked in the order of the formats where the option `format` is "auto". */
  recognizes(source: DataSource): boolean;
  /** @throws DataError with file and line */
  reader(source: DataSource, options: ReadOptions): RowReader<Row>;
  /**
   * Reads labels alone, of files joined by id; undefined where the file has none of this format.
   * @param names classes that a label may name
   */
  labelReader(source: DataSource, names: readonly string[]): LabelReader | undefined;
  /** What the tokenizer gets: one text, the texts of a comparison, or token ids that are taken as they are. */
  fields(row: Row): string | ComparisonFields | Uint32Array;
  /** What precedes each field of a comparison in the text that is tokenized, where no template says otherwise. */
  readonly fieldHeads?: ComparisonFields;
  readonly classes?: FixedClasses<Row>;
}

/** Whether the row is of the format. */
export function isRowOf<Row extends BaseRow>(format: DataFormat<string, Row>, row: BaseRow): row is Row {
  return format.kinds.includes(row.kind);
}
