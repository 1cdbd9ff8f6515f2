/** The memory plan of a training run, from its config. */
import type { ModelLoader } from "../../core/plugin/model.ts";
import type { Config } from "../config/config.ts";
import { createOptimizer } from "../training/optimizer-groups.ts";
import type { StepLoss } from "../training/step.ts";
import { taskKinds } from "../training/tasks/index.ts";
import { openPlanned, type Planned, stepsOf } from "./open.ts";
import type { MemorySettings, Workload, UserSettings, MemoryMode, RecordedMemory } from "./settings.ts";

/** The work of a config. @param lengths tokens of samples, in turn; default: all as long as may come */
export function workloadOf(
  config: Config,
  source: ModelLoader,
  numLabels: number,
  lengths: readonly number[] = [config.data.maxLength],
): Workload {
  const { adapter, task, training } = config;
  const { rowsPerSample } = taskKinds[task.task];
  return {
    source,
    adapter,
    numLabels,
    training: {
      optimizer: (session) => createOptimizer(config, session, { factor: () => 1 }),
      steps: stepsOf(lengths, rowsPerSample * training.perDeviceTrainBatchSize * training.gradientAccumulationSteps),
      maxSamples: training.tokenBudget === undefined ? rowsPerSample * training.perDeviceTrainBatchSize : undefined,
    },
    evaluation:
      training.evalStrategy === "no"
        ? undefined
        : { maxSamples: training.perDeviceEvalBatchSize, longest: Math.max(...lengths) },
  };
}

/** What the config settles of memory. */
export function givenSettings({ training }: Config, source: ModelLoader): UserSettings {
  return {
    checkpointing: training.gradientCheckpointing,
    tokenBudget: training.tokenBudget,
    placement: source.placement,
  };
}

/**
 * Opens the GPU of a run and plans it, before anything is loaded.
 * @param recorded as `memoryRequest`
 * @throws DeviceError as `openPlanned`
 */
export function planTrainingRun(
  config: Config,
  {
    source,
    work,
  }: { readonly source: ModelLoader; readonly work: { readonly numLabels: number; readonly stepLoss: StepLoss } },
  recorded?: RecordedMemory,
): Promise<Planned> {
  const planned = workloadOf(config, source, work.numLabels);
  const request = { ...memoryRequest(config, source, recorded), work: planned, loss: work.stepLoss };
  return openPlanned({ device: config.device, ...request });
}

/**
 * What is settled of memory, and how the rest is chosen.
 * @param recorded of the run that is resumed: its settings stay, unless the config names them or another mode
 */
export function memoryRequest(
  config: Config,
  source: ModelLoader,
  recorded?: RecordedMemory,
): { readonly mode: MemoryMode; readonly given: UserSettings } {
  const given = givenSettings(config, source);
  const named = config.input.training?.memory;
  if (recorded === undefined || (named !== undefined && named !== recorded.mode)) {
    return { mode: config.training.memory, given };
  }
  return { mode: recorded.mode, given: resumed(given, recorded.settings) };
}

function resumed({ checkpointing, tokenBudget, placement }: UserSettings, before: MemorySettings): UserSettings {
  return {
    resumed: true,
    checkpointing: checkpointing ?? before.checkpointing,
    tokenBudget: tokenBudget ?? before.tokenBudget,
    placement: placement && {
      embeddings: placement.embeddings ?? before.embeddings,
      keepDequantized: placement.keepDequantized ?? before.keepDequantized,
    },
  };
}
