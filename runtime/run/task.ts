/** What a run does, from its config and its rows: known before anything is downloaded, loaded or written. */
import type { Schedule } from "../../core/plugin/schedule.ts";
import type { Config } from "../config/config.ts";
import { type BestCriterion, bestCriterion } from "../config/interval-options.ts";
import type { TrainingOptions } from "../config/training-options.ts";
import { ConfigError } from "../../core/errors.ts";
import { didYouMean } from "../../core/util/suggest.ts";
import { missingLabels } from "../data/labels.ts";
import { createSampler, type Sampler } from "../data/sampler.ts";
import type { RunListener } from "../events.ts";
import { validateMetrics } from "../training/evaluate.ts";
import { type Intervals, intervalsOf } from "../training/intervals.ts";
import { createSchedule } from "../training/schedule.ts";
import { createStepLoss } from "../training/step-loss.ts";
import type { StepLoss } from "../training/step.ts";
import { taskKinds } from "../training/tasks/index.ts";
import type { TaskKind } from "../training/tasks/task.ts";
import { loadTrainingData, type RunData } from "./data.ts";

/** Rows, and what is done with them. */
export interface TrainingTask {
  readonly rows: RunData;
  readonly kind: TaskKind;
  /** Numbers that the head gives for a row: classes, outputs, labels. */
  readonly numLabels: number;
  /** Names of the classes, outputs or labels, where they have any. */
  readonly labelNames: readonly string[] | undefined;
  readonly stepLoss: StepLoss;
  /** Samples of one optimizer step. */
  readonly samplesPerStep: number;
  readonly sampler: Sampler;
  readonly schedule: Schedule;
  readonly intervals: Intervals;
  /** How the best evaluation is told; undefined where nothing asks for it. */
  readonly criterion: BestCriterion | undefined;
}

/** What several ranks make of the global batch, beside what DDP would. */
function describeRanks(ranks: number, scaled: number, samples: number): string {
  if (ranks === 1) return "";
  if (scaled > 1) return ` x ${ranks} ranks`;
  return ` over ${ranks} ranks, as on one (DDP's would be ${samples * ranks}: --batch-scaling per-device)`;
}

/** @throws ConfigError where no evaluation gives the number that tells the best */
function checkedCriterion(training: TrainingOptions, names: readonly string[] | undefined): BestCriterion | undefined {
  const criterion = bestCriterion(training);
  if (criterion === undefined) return undefined;
  const { metric } = criterion;
  if (names === undefined || names.includes(metric)) return criterion;
  throw new ConfigError(
    "BEST_MODEL",
    `training.metricForBestModel: got ${metric}, expected one of ${names.join(", ")}${didYouMean(metric, names)}`,
    { hint: "Metrics are named with --metrics, or in the config's metrics." },
  );
}

/** Reads the rows of a run. @param ranks that train together @throws ConfigError, DataError where config and rows do not fit; PluginError for a metric that cannot work */
export async function readTask(config: Config, onEvent?: RunListener, ranks = 1): Promise<TrainingTask> {
  const { training } = config;
  const rows = await loadTrainingData(config);
  const kind = taskKinds[config.task.task];
  const numLabels = kind.countOutputs(rows.evaluation === undefined ? [rows.train] : [rows.train, rows.evaluation]);
  const odd = kind.name === "classification" ? missingLabels(rows.train, numLabels) : undefined;
  if (odd !== undefined) onEvent?.({ type: "warning", message: odd });
  const { ties = 0 } = rows.train;
  if (ties > 0)
    onEvent?.({
      type: "info",
      message: `${ties} of the training rows are ties, which a reward model does not learn from`,
    });
  const named = validateMetrics(config.metrics, kind, numLabels);
  const criterion = checkedCriterion(training, named);
  const stepLoss = createStepLoss(rows.train.rows, config, numLabels, onEvent);
  const scaled = training.batchScaling === "per-device" ? ranks : 1;
  const samplesPerStep = training.perDeviceTrainBatchSize * training.gradientAccumulationSteps * scaled;
  const sampler = createSampler({
    size: rows.train.rows.length / kind.rowsPerSample,
    samplesPerStep,
    seed: training.seed,
    shuffle: training.shuffle,
    numTrainEpochs: training.numTrainEpochs,
    maxSteps: training.maxSteps,
  });
  const intervals = intervalsOf(training, sampler.totalSteps);
  const schedule = createSchedule(config, sampler.totalSteps);
  onEvent?.({
    type: "info",
    message:
      `global batch ${samplesPerStep} = ${training.perDeviceTrainBatchSize} per device x ${training.gradientAccumulationSteps} accumulated${describeRanks(ranks, scaled, samplesPerStep)}; ` +
      `${sampler.totalSteps} steps over ${rows.train.rows.length / kind.rowsPerSample} ${kind.rowsPerSample === 2 ? "pairs" : "rows"}`,
  });
  return {
    rows,
    kind,
    numLabels,
    labelNames: rows.train.labelNames,
    stepLoss,
    samplesPerStep,
    sampler,
    schedule,
    criterion,
    intervals,
  };
}
