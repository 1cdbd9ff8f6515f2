/** The memory plan of a training run, from its config. */
import type { Config } from "../config.ts";
import type { Engine } from "../engine.ts";
import { createOptimizer } from "../head-optimizer.ts";
import type { ModelSource } from "../plugin.ts";
import type { MemorySettings, PlannedWork } from "./account.ts";
import { openPlanned, type Planned, stepsOf } from "./open.ts";
import type { GivenSettings } from "./plan.ts";

/** The work of a config. @param lengths tokens of samples, in turn; default: all as long as may come */
export function plannedWork(
  config: Config,
  source: ModelSource,
  numLabels: number,
  lengths: readonly number[] = [config.data.maxLength],
): PlannedWork {
  const { adapter, training } = config;
  return {
    source,
    adapter,
    optimizer: (session) => createOptimizer(config, session, 1),
    numLabels,
    steps: stepsOf(lengths, training.perDeviceTrainBatchSize * training.gradientAccumulationSteps),
    maxSamples: training.tokenBudget === undefined ? training.perDeviceTrainBatchSize : undefined,
    maxEvalSamples: training.evalStrategy === "no" ? undefined : training.perDeviceEvalBatchSize,
  };
}

/** What the config settles of memory. */
export function givenSettings({ training }: Config, source: ModelSource): GivenSettings {
  return {
    checkpointing: training.gradientCheckpointing,
    tokenBudget: training.tokenBudget,
    placement: source.placement,
  };
}

/**
 * Opens the GPU of a run and plans it, before anything is loaded.
 * @param recorded settings of the run that is resumed: they stay, unless the config names them or a mode
 * @throws DeviceError as `openPlanned`
 */
export function openRun(
  config: Config,
  { source, numLabels }: { readonly source: ModelSource; readonly numLabels: number },
  engine: Engine,
  recorded?: MemorySettings,
): Promise<Planned> {
  const given = givenSettings(config, source);
  const before = config.given.training?.memory === undefined ? recorded : undefined;
  const request = {
    device: config.device,
    mode: config.training.memory,
    given: before === undefined ? given : resumed(given, before),
    work: plannedWork(config, source, numLabels),
  };
  return openPlanned(request, engine);
}

function resumed({ checkpointing, tokenBudget, placement }: GivenSettings, before: MemorySettings): GivenSettings {
  return {
    checkpointing: checkpointing ?? before.checkpointing,
    tokenBudget: tokenBudget ?? before.tokenBudget,
    placement: placement && {
      embeddings: placement.embeddings ?? before.embeddings,
      keepDequantised: placement.keepDequantised ?? before.keepDequantised,
    },
  };
}
