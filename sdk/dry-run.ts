import { type Config, requireConfig } from "../runtime/config/config.ts";
import { planLine } from "../runtime/planning/format.ts";
import { planTrainingRun } from "../runtime/planning/training-plan.ts";
import { resolveResume } from "../runtime/run/resume.ts";
import { readTask } from "../runtime/run/task.ts";
import { openBaseModel } from "../runtime/session/base-model.ts";
import { inspectConfig } from "./inspect.ts";

/** What a run would do, found without training: data read, config.json read, device asked. */
export interface DryRunResult {
  readonly device: string;
  /** What the memory plan chooses, and the bytes it takes at most. */
  readonly memory: string;
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
 * @example const { totalSteps, memory } = await dryRun(config);
 */
export async function dryRun(config: Config): Promise<DryRunResult> {
  requireConfig(config);
  const { record } = await resolveResume(config.training);
  const work = await readTask(config);
  const { rows, samplesPerStep, sampler } = work;
  const { trainableParameters, allParameters } = await inspectConfig(config);
  const { source } = await openBaseModel(config.model, { part: "config" });
  const { gpu, plan } = await planTrainingRun(config, { source, work }, record?.memory);
  const { adapter, provider, tier } = gpu.info;
  gpu.destroy();
  return {
    device: `${adapter.description || adapter.device} (${provider}, tier ${tier})`,
    memory: planLine(plan),
    trainSamples: rows.train.rows.length,
    evalSamples: rows.evaluation?.rows.length ?? 0,
    globalBatchSize: samplesPerStep,
    totalSteps: sampler.totalSteps,
    trainableParameters,
    allParameters,
  };
}
