/** What a data format is: one object in one file, listed in index.ts. Whatever depends on a row's format asks this object. */
import type { CsvFile } from "../csv.ts";
import type { JsonlFile } from "../jsonl.ts";

/** What the rows of every format have. */
export type BaseRow = {
  /** Tells rows of one format from those of the others. */
  readonly kind: string;
  /** The file's own `id`, or the row's position after concatenation where it has none. */
  readonly id: string;
  readonly file: string;
  /** 1-based line of the row's first line in `file`. */
  readonly line: number;
  /** Class index; undefined in prediction files. */
  readonly label: number | undefined;
  /** Probability of each class, where the file gives them to train on. */
  readonly soft?: readonly number[] | undefined;
};

/** A row as a format reads it: a label that is no index from 0 is still a name. */
export type ReadRow<Row extends BaseRow = BaseRow> = Row & { readonly labelName?: string };

/** A file of rows. */
export type DataSource = CsvFile | JsonlFile;

/** How a file is read. */
export type ReadOptions = {
  /** Position of the first row after concatenation. */
  readonly firstIndex: number;
  /** False: labels are not read, whatever the file has. */
  readonly labelled: boolean;
  /** Columns that are read as soft labels, and so are no labels. */
  readonly softLabelColumns: readonly string[];
};

/** The rows of a file. */
export type FormatRows<Row extends BaseRow = BaseRow> = {
  readonly rows: readonly ReadRow<Row>[];
  /** Number of classes, where the format's classes are fixed and the file is labelled. */
  readonly classes?: number | undefined;
};

/** Reads the class of a CSV record. @throws DataError */
export type LabelReader = (cells: readonly string[], line: number) => number;

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
 * A data format. A new one is a file like arena.ts and an entry of `dataFormats`: the option `format`, reading, tokenizing,
 * truncation, fingerprints, augmentation, submissions and reports follow from its members.
 */
export interface DataFormat<Name extends string = string, Row extends BaseRow = BaseRow> {
  /** Value of the option `format`. */
  readonly name: Name;
  /** Kinds of its rows; no other format has them. */
  readonly kinds: readonly Row["kind"][];
  /** Columns of a file, for help and for errors ("Arena files have ..."). */
  readonly columns: string;
  /** Columns of the labels, for errors ("... need the winner columns"). */
  readonly labelColumns: string;
  /** Whether the file is of this format; asked in the order of `dataFormats` where the option `format` is "auto". */
  recognizes(source: DataSource): boolean;
  /** @throws DataError with file and line */
  read(source: DataSource, options: ReadOptions): FormatRows<Row>;
  /**
   * Reads labels alone, of files joined by id; undefined where the file has none of this format.
   * @param names classes that a label may name
   */
  labelReader(csv: CsvFile, names: readonly string[]): LabelReader | undefined;
  /** What the tokenizer gets: one text, the texts of a comparison, or token ids that are taken as they are. */
  fields(row: Row): string | ComparisonFields | Uint32Array;
  /**
   * What precedes each field of a comparison in the text that is tokenized. They are no part of fingerprints and cache keys:
   * rows of another template need another kind.
   */
  readonly fieldHeads?: ComparisonFields;
  readonly classes?: FixedClasses<Row>;
}

/** Whether the row is of the format. */
export function isRowOf<Row extends BaseRow>(format: DataFormat<string, Row>, row: BaseRow): row is Row {
  return format.kinds.includes(row.kind);
}
