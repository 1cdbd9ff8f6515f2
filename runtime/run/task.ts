/** What a run does, from its config and its rows: known before anything is downloaded, loaded or written. */
import type { Config } from "../config/config.ts";
import { countLabels, missingLabels } from "../data/labels.ts";
import { createSampler, type Sampler } from "../data/sampler.ts";
import type { RunListener } from "../events.ts";
import { validateMetrics } from "../training/evaluate.ts";
import { createStepLoss } from "../training/step-loss.ts";
import type { StepLoss } from "../training/step.ts";
import { loadTrainingData, type RunData } from "./data.ts";

/** Rows, and what is done with them. */
export interface TrainingTask {
  readonly rows: RunData;
  readonly numLabels: number;
  /** Names of the classes, where they have any. */
  readonly labelNames: readonly string[] | undefined;
  readonly stepLoss: StepLoss;
  /** Samples of one optimizer step. */
  readonly samplesPerStep: number;
  readonly sampler: Sampler;
}

/** Reads the rows of a run. @throws ConfigError, DataError where config and rows do not fit; PluginError for a metric that cannot work */
export function readTask(config: Config, onEvent?: RunListener): TrainingTask {
  const { training } = config;
  const rows = loadTrainingData(config);
  const numLabels = countLabels(rows.evaluation === undefined ? [rows.train] : [rows.train, rows.evaluation]);
  const odd = missingLabels(rows.train, numLabels);
  if (odd !== undefined) onEvent?.({ type: "warning", message: odd });
  validateMetrics(config.metrics, numLabels);
  const stepLoss = createStepLoss(rows.train.rows, config, numLabels, onEvent);
  const samplesPerStep = training.perDeviceTrainBatchSize * training.gradientAccumulationSteps;
  const sampler = createSampler({
    size: rows.train.rows.length,
    samplesPerStep,
    seed: training.seed,
    shuffle: training.shuffle,
    numTrainEpochs: training.numTrainEpochs,
    maxSteps: training.maxSteps,
  });
  onEvent?.({
    type: "info",
    message:
      `global batch ${samplesPerStep} = ${training.perDeviceTrainBatchSize} per device x ${training.gradientAccumulationSteps} accumulated; ` +
      `${sampler.totalSteps} steps over ${rows.train.rows.length} rows`,
  });
  return { rows, numLabels, labelNames: rows.train.labelNames, stepLoss, samplesPerStep, sampler };
}
