/** What a run trains on and what it evaluates on: files of their own, or a fold that is held out. */
import { createHash } from "node:crypto";
import { ConfigError, DataError } from "../../core/errors.ts";
import { type Dataset, loadDataset, type ColumnOptions, requireLabels } from "./dataset.ts";
import { groupFolds, stratifiedFolds, stratifiedGroupFolds } from "./folds.ts";
import { type DataRow, formatOf } from "./formats/index.ts";
import type { ClassNames } from "./label-encoder.ts";
import type { LabelValues } from "./label-values.ts";
import { textOf } from "./row.ts";

/** By what rows are dealt into folds. */
export type FoldBy = "index" | "id" | "hash" | "group" | "stratified" | "stratified-group";

/** By what folds that keep something together or even are dealt. */
interface FoldOptions {
  readonly nSplits: number;
  readonly foldBy: FoldBy;
  /** "prompt", or a column of the files. */
  readonly groupBy: string;
}

/** The files of a run, and how they are split. */
export type SplitOptions = ColumnOptions & {
  /** Labels are numbers or sets, no classes. */
  readonly values?: LabelValues | undefined;
  /** Files to train on, concatenated in order. */
  readonly train: string | readonly string[];
  /** Files to evaluate on; without them a fold of `train` is held out where `nSplits` says so. */
  readonly evaluation?: string | readonly string[] | undefined;
  /** Rows whose number modulo `nSplits` equals `foldIdx` are held out for evaluation; see {@link splitFold}. */
  readonly nSplits?: number | undefined;
  readonly foldIdx?: number | undefined;
  /** Default "index". */
  readonly foldBy?: FoldBy | undefined;
  /** What must not part where `foldBy` goes by groups: "prompt" (the default), or a column of the files. */
  readonly groupBy?: string | undefined;
};

/**
 * Loads what a run trains and evaluates on. `evaluation` is undefined without evaluation files and without `nSplits`.
 * @param labelNames classes that are known already; default: the training files define them
 * @throws DataError, ConfigError
 */
export async function loadData(
  options: SplitOptions,
  labelNames?: ClassNames,
): Promise<{ readonly train: Dataset; readonly evaluation: Dataset | undefined }> {
  const { nSplits, foldIdx } = options;
  if (options.evaluation !== undefined && nSplits !== undefined) {
    throw new ConfigError("DATA_SPLIT", "evaluation files and nSplits exclude each other", {
      hint: "Give one of the two.",
    });
  }
  if (nSplits === undefined && foldIdx !== undefined) throw new ConfigError("DATA_SPLIT", "foldIdx needs nSplits");
  const all = requireLabels(await loadDataset(options.train, { ...options, labelNames, defaultSplit: "train" }));
  if (options.evaluation !== undefined) {
    const read = {
      ...options,
      softLabelColumns: [],
      weightOptional: true,
      labelNames: all.labelNames ?? "numbers",
      values: options.values && { ...options.values, names: all.labelNames },
    } as const;
    return { train: all, evaluation: requireLabels(await loadDataset(options.evaluation, read)) };
  }
  if (nSplits === undefined) return { train: all, evaluation: undefined };
  return splitFold(all, nSplits, foldIdx ?? 0, options.foldBy, options.groupBy);
}

/**
 * Splits rows: those whose number modulo `nSplits` is `foldIdx` are evaluation, the rest training. The number is the row's
 * position, its id (a whole number), or the first four bytes of the id's sha256; by the last two, rows of one id never part.
 * By group, stratified and stratified-group, folds are those of scikit-learn's GroupKFold, StratifiedKFold and StratifiedGroupKFold.
 * @throws ConfigError, DataError
 */
export function splitFold(
  dataset: Dataset,
  nSplits: number,
  foldIdx: number,
  foldBy: FoldBy = "index",
  groupBy = "prompt",
): { readonly train: Dataset; readonly evaluation: Dataset } {
  if (!Number.isInteger(nSplits) || nSplits < 2)
    throw new ConfigError("DATA_SPLIT", `nSplits: expected a whole number of at least 2, got ${nSplits}`);
  if (!Number.isInteger(foldIdx) || foldIdx < 0 || foldIdx >= nSplits) {
    throw new ConfigError("DATA_SPLIT", `foldIdx: expected 0..${nSplits - 1}, got ${foldIdx}`);
  }
  const folds = foldsOf(dataset, { nSplits, foldBy, groupBy });
  const part = (held: boolean): Dataset => ({
    ...dataset,
    rows: dataset.rows.filter((_, index) => (folds[index] === foldIdx) === held),
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

/** The fold of each row. @throws DataError for rows that cannot be dealt so */
function foldsOf({ rows }: Dataset, { nSplits, foldBy, groupBy }: FoldOptions): ArrayLike<number> {
  if (foldBy === "group") return groupFolds(groupsOf(rows, groupBy, nSplits), nSplits);
  const stratified = foldBy === "stratified" || foldBy === "stratified-group";
  if (!stratified) return rows.map((row, index) => foldNumber(row, index, foldBy) % nSplits);
  const labels = rows.map((row) => {
    if (row.label !== undefined) return row.label;
    throw new DataError("DATA_LABEL_MISSING", `foldBy ${foldBy}: the row has no label`, row);
  });
  if (foldBy === "stratified") return stratifiedFolds(labels, nSplits);
  return stratifiedGroupFolds(labels, groupsOf(rows, groupBy, nSplits), nSplits);
}

/** The group of each row: its prompt (of a text, the text), or a column. @throws DataError */
function groupsOf(rows: readonly DataRow[], groupBy: string, nSplits: number): string[] {
  const groups = rows.map((row) => {
    if (groupBy === "prompt") {
      const fields = formatOf(row).fields(row);
      return typeof fields === "string" ? fields : fields instanceof Uint32Array ? fields.join() : fields[0];
    }
    const value = groupBy === "id" ? row.id : row.extra?.[groupBy];
    if (value !== undefined && value !== null) return textOf(value);
    if (value !== undefined && value !== null)
      return typeof value === "object" ? JSON.stringify(value) : `${value as string | number | boolean | bigint}`;
    if (value !== undefined && value !== null)
      return typeof value === "object" ? JSON.stringify(value) : `${value as string | number | boolean | bigint}`;
    const has = ["prompt", "id", ...Object.keys(row.extra ?? {})].join(", ");
    throw new DataError("DATA_COLUMN_MISSING", `groupBy ${groupBy}: the row has no such column; found ${has}`, row);
  });
  const count = new Set(groups).size;
  if (count >= nSplits) return groups;
  throw new DataError(
    "DATA_GROUPS_FEW",
    `groupBy ${groupBy}: got ${count} groups, expected at least ${nSplits} for as many folds`,
    rows[0]!,
  );
}

/** Of foldBy index, id and hash. */
function foldNumber(row: DataRow, index: number, foldBy: FoldBy): number {
  if (foldBy === "index") return index;
  if (foldBy === "hash") return createHash("sha256").update(row.id).digest().readUInt32BE(0);
  const id = /^\d+$/.test(row.id) ? Number(row.id) : Number.NaN;
  if (Number.isSafeInteger(id)) return id;
  throw new DataError("DATA_ID_INVALID", `foldBy id: expected a whole number, got ${JSON.stringify(row.id)}`, row, {
    hint: 'Use foldBy "hash" for ids of other kinds.',
  });
}
