/** The rows and tokens of a run, from its data options. */
import { ConfigError } from "../../core/errors.ts";
import type { TemplatePlugin } from "../../core/plugin/template.ts";
import type { Config } from "../config/config.ts";
import type { DataOptions } from "../config/data-options.ts";
import type { TaskOptions } from "../config/task-options.ts";
import {
  openDatasetTokenizer,
  type DatasetTokenizer,
  type TokenizedDataset,
  type TokenizerOptions,
} from "../data/dataset-tokenizer.ts";
import { pairAnswers } from "../data/answers.ts";
import { type ColumnOptions, loadDataset, requireLabels, type Dataset } from "../data/dataset.ts";
import type { ClassNames } from "../data/label-encoder.ts";
import type { LabelValues } from "../data/label-values.ts";
import type { StepSample } from "../data/pack.ts";
import { namedTemplate } from "../data/templates/index.ts";
import type { SpecialSettings } from "../data/special-tokens.ts";
import { joinSoftLabels } from "../data/soft-label-file.ts";
import { loadData } from "../data/split.ts";
import { augmentBySwapping } from "../data/swap.ts";
import { loadTokenizer } from "../data/tokenizer.ts";
import { truncationMessage, truncationReport, type TruncationReport } from "../data/truncation-report.ts";
import type { RunListener } from "../events.ts";
import { taskKinds } from "../training/tasks/index.ts";

/** Rows to train on and rows held out. */
export interface RunData {
  readonly train: Dataset;
  readonly evaluation: Dataset | undefined;
}

/** How the data options say that columns are read. */
export const columnOptions = (options: DataOptions): ColumnOptions => {
  const { format, softLabelColumns, weightColumn, columns, labelNames, pairSeed } = options;
  return { format, softLabelColumns, weightColumn, columns, givenNames: labelNames, sideSeed: pairSeed };
};

/**
 * @param labelNames classes that a run has already; default: the data's own
 * @param softLabelFile soft labels of the rows to train on
 * @throws DataError, ConfigError
 */
export async function loadRunData(
  options: DataOptions,
  task: TaskOptions,
  labelNames?: ClassNames,
  softLabelFile?: string,
): Promise<RunData> {
  const { trainFiles, evalFiles, nSplits, foldIdx, foldBy, groupBy, swapAugment } = options;
  if (trainFiles.length === 0) {
    throw new ConfigError("DATA_NO_FILES", "data.trainFiles: no files are given", {
      hint: "Name at least one file of rows (CSV, JSON, JSONL, Parquet): --train-files train.csv",
    });
  }
  const data = await loadData(
    {
      train: trainFiles,
      ...(evalFiles.length > 0 ? { evaluation: evalFiles } : {}),
      ...columnOptions(options),
      values: labelValues(options, task, labelNames),
      ...(nSplits === undefined ? {} : { nSplits, foldIdx, foldBy, groupBy }),
    },
    labelNames,
  );
  if (task.task === "reward")
    return { train: pairAnswers(data.train), evaluation: data.evaluation && pairAnswers(data.evaluation) };
  const train = softLabelFile === undefined ? data.train : joinSoftLabels(data.train, softLabelFile);
  return { ...data, train: swapAugment ? augmentBySwapping(train) : train };
}

/** How the labels of a task are read. @param names of the labels, where a run has them already */
export function labelValues(
  { labelNames }: Pick<DataOptions, "labelNames">,
  task: TaskOptions,
  names?: ClassNames,
): LabelValues | undefined {
  const values = taskKinds[task.task].labels(task);
  const own = labelNames.length === 0 ? undefined : labelNames;
  return values && { ...values, names: names === "numbers" ? undefined : (names ?? own) };
}

/**
 * The rows that a config trains on, and those that it evaluates on.
 * @throws DataError; ConfigError, also where it evaluates on nothing, as transformers' Trainer
 */
export async function loadTrainingData({
  data,
  task,
  training,
}: Pick<Config, "data" | "task" | "training">): Promise<RunData> {
  const evaluates = training.evalStrategy !== "no" || training.evalOnStart;
  if (evaluates && data.evalFiles.length === 0 && data.nSplits === undefined) {
    throw new ConfigError(
      "DATA_NO_EVALUATION",
      `training.${training.evalStrategy === "no" ? "evalOnStart: got true" : `evalStrategy: got "${training.evalStrategy}"`}, but neither data.evalFiles nor data.nSplits says on what`,
      { hint: "Name files with --eval-files, hold out a fold with --n-splits, or leave --eval-strategy out." },
    );
  }
  return loadRunData(data, task, undefined, data.softLabelFile);
}

/** The same for rows that are not trained on. */
export const evaluationColumns = (options: DataOptions): ColumnOptions => ({
  ...columnOptions(options),
  softLabelColumns: [],
  weightOptional: true,
});

/**
 * The rows that `eval` scores: the evaluation files, or the fold held out of the training files.
 * @param labelNames classes that the run was trained on
 * @throws DataError, ConfigError
 */
export async function loadEvaluationData(
  options: DataOptions,
  task: TaskOptions,
  labelNames: ClassNames,
): Promise<Dataset> {
  const { evalFiles } = options;
  if (evalFiles.length > 0) {
    const rows = requireLabels(
      await loadDataset(evalFiles, {
        ...evaluationColumns(options),
        labelNames,
        values: labelValues(options, task, labelNames),
      }),
    );
    return task.task === "reward" ? pairAnswers(rows) : rows;
  }
  const { evaluation } = await loadRunData(options, task, labelNames);
  if (evaluation !== undefined) return evaluation;
  throw new ConfigError(
    "DATA_NO_EVALUATION",
    "there is nothing to evaluate on: neither data.evalFiles nor data.nSplits is given",
    {
      hint: "Name files with --eval-files, or hold out a fold with --n-splits.",
    },
  );
}

/** A tokenizer of a checkpoint's folder with the run's options; hold it with `await using`. */
export function openRunTokenizer(
  checkpoint: string,
  vocabSize: number,
  options: DataOptions,
  specials: SpecialSettings | undefined,
  onEvent?: RunListener,
  template?: TemplatePlugin,
): DatasetTokenizer & AsyncDisposable {
  const tokenizer = openDatasetTokenizer({
    ...tokenizerOptions(checkpoint, vocabSize, options, specials, template),
    dir: checkpoint,
    cacheDir: options.cacheDir,
    onWarning: onEvent && ((message) => onEvent({ type: "warning", message })),
  });
  return { ...tokenizer, [Symbol.asyncDispose]: () => tokenizer.close() };
}

/** The same with the vocabulary loaded now and kept, and no file of ids: for texts that come a few at a time. @throws ModelError */
export async function openServingTokenizer(
  checkpoint: string,
  vocabSize: number,
  options: DataOptions,
  specials: SpecialSettings | undefined,
  template?: TemplatePlugin,
): Promise<DatasetTokenizer> {
  const tokenizer = await loadTokenizer(checkpoint);
  return openDatasetTokenizer({
    ...tokenizerOptions(checkpoint, vocabSize, options, specials, template),
    tokenizer,
    cache: false,
  });
}

/** @param own a template of the config's own, in place of the one that the options name */
function tokenizerOptions(
  checkpoint: string,
  vocabSize: number,
  { maxLength, truncate, promptMaxTokens, template }: DataOptions,
  specials: SpecialSettings | undefined,
  own: TemplatePlugin | undefined,
): TokenizerOptions {
  const plugin = own ?? namedTemplate(template);
  return {
    template: plugin && { plugin, dir: checkpoint },
    addBos: specials?.addBosToken,
    addEos: specials?.addEosToken,
    maxLength,
    truncation: truncate,
    promptMaxTokens,
    vocabSize,
  };
}

/** Samples of rows, once their ids are there. */
export async function samplesOf(data: TokenizedDataset, rows: ArrayLike<number>): Promise<StepSample[]> {
  const ids = await data.ready(rows);
  return Array.from(rows, (index, i) => {
    const row = data.dataset.rows[index]!;
    return { index, inputIds: ids[i]!, label: row.label, row };
  });
}

/** What truncation took from each dataset, once all are tokenized; cut rows are told as info events. @throws DataError */
export async function reportTruncation(
  datasets: Readonly<Record<string, TokenizedDataset | undefined>>,
  { maxLength, truncate }: DataOptions,
  onEvent: RunListener | undefined,
): Promise<Readonly<Record<string, TruncationReport>>> {
  const reports: Record<string, TruncationReport> = {};
  for (const [name, data] of Object.entries(datasets)) {
    if (data === undefined) continue;
    const report = truncationReport(data.dataset, await data.done());
    reports[name] = report;
    const message = truncationMessage(`${name} data`, report, maxLength, truncate);
    if (message !== undefined) onEvent?.({ type: "info", message });
  }
  return reports;
}
