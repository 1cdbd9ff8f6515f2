/** What a run trains on and what it evaluates on: files of their own, or a fold that is held out. */
import { createHash } from "node:crypto";
import { ConfigError, DataError } from "../../core/errors.ts";
import { type Dataset, loadDataset, type ColumnOptions, requireLabels } from "./dataset.ts";
import type { DataRow } from "./formats/index.ts";
import type { ClassNames } from "./label-encoder.ts";
import type { LabelValues } from "./label-values.ts";

/** By what rows are dealt into folds. */
export type FoldBy = "index" | "id" | "hash";

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
  const all = requireLabels(await loadDataset(options.train, { ...options, labelNames }));
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
