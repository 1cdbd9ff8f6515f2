import type { Config } from "./config.ts";
import { createSampler } from "./data/sampler.ts";
import { openGpu } from "./device/index.ts";
import { inspectConfig } from "./inspect.ts";
import { loadRunData } from "./run-data.ts";

/** What a run would do, found without training: data read, config.json read, device asked. */
export interface DryRunResult {
  readonly device: string;
  readonly trainSamples: number;
  readonly evalSamples: number;
  /** Samples of one optimizer step. */
  readonly globalBatchSize: number;
  readonly totalSteps: number;
  readonly trainableParameters: number;
  readonly allParameters: number;
}

/**
 * What a run would do, without training.
 * @throws QloraError of every kind, as `train` would
 * @example const { totalSteps, trainableParameters } = await dryRun(config);
 */
export async function dryRun(config: Config): Promise<DryRunResult> {
  const { training, device } = config;
  const data = loadRunData(config.data);
  const globalBatchSize = training.perDeviceTrainBatchSize * training.gradientAccumulationSteps;
  const { totalSteps } = createSampler({
    size: data.train.rows.length,
    samplesPerStep: globalBatchSize,
    seed: training.seed,
    numTrainEpochs: training.numTrainEpochs,
    maxSteps: training.maxSteps,
  });
  const { trainableParameters, allParameters } = await inspectConfig(config);
  const gpu = await openGpu(device);
  const { adapter, provider, tier } = gpu.info;
  gpu.destroy();
  return {
    device: `${adapter.description || adapter.device} (${provider}, tier ${tier})`,
    trainSamples: data.train.rows.length,
    evalSamples: data.evaluation?.rows.length ?? 0,
    globalBatchSize,
    totalSteps,
    trainableParameters,
    allParameters,
  };
}
