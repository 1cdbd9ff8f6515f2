/** Options of the commands that run a trained adapter; what is not given is taken from the run's record. */
import { dataOptions } from "../runtime/config/data-options.ts";
import { deviceOptions } from "../runtime/config/device-options.ts";
import { placementOptions } from "../runtime/config/placement-options.ts";
import { taskOptions } from "../runtime/config/task-options.ts";
import { trainingOptions } from "../runtime/config/training-options.ts";
import type { InferenceRequest } from "../runtime/inference/adapter-run.ts";
import type { FlagGroup, SectionValues } from "./argv.ts";
import { columnsGroup, columnsOf } from "./column-flags.ts";
import { quantizationName, weightsGroup } from "./weights-flags.ts";

const {
  format,
  columns,
  labelNames,
  weightColumn,
  pairSeed,
  template,
  maxLength,
  truncate,
  promptMaxTokens,
  addBosToken,
  addEosToken,
  nSplits,
  foldIdx,
  foldBy,
  groupBy,
  cacheDir,
} = dataOptions.shape;
const { perDeviceEvalBatchSize, tokenBudget, allowNonFinite } = trainingOptions.shape;

const { task, labelColumns } = taskOptions.shape;

export const inferenceGroups: readonly FlagGroup[] = [
  {
    title: "Data (default: as the run was trained)",
    section: "data",
    flat: true,
    shape: {
      format,
      columns,
      labelNames,
      weightColumn,
      pairSeed,
      template,
      maxLength,
      truncate,
      promptMaxTokens,
      addBosToken,
      addEosToken,
      nSplits,
      foldIdx,
      foldBy,
      groupBy,
      cacheDir,
    },
    recorded: true,
  },
  { ...columnsGroup, recorded: true },
  {
    title: "Task (default: as the adapter was trained)",
    section: "task",
    flat: true,
    shape: { task, labelColumns },
    recorded: true,
  },
  {
    title: "Batches (default: as the run was trained)",
    section: "training",
    flat: true,
    shape: { perDeviceEvalBatchSize, tokenBudget },
    recorded: true,
  },
  {
    title: "Model (default: as the run was trained, where that fits the GPU)",
    section: "model",
    flat: false,
    shape: placementOptions.shape,
    recorded: true,
  },
  weightsGroup,
  { title: "Damaged tensors", section: "training", flat: true, shape: { allowNonFinite } },
  { title: "Device", section: "device", flat: true, shape: deviceOptions.shape },
];

/** Flags of every command that runs a trained adapter. */
export interface AdapterFlags {
  readonly baseModel: string | undefined;
  readonly trustRemoteCode: boolean;
}

/** What the flags ask for; each value has been checked against its option already. */
export function inferenceRequest(
  values: SectionValues,
  [run = "", ...files]: readonly string[],
  { baseModel, trustRemoteCode }: AdapterFlags,
): InferenceRequest {
  const { data = {}, task: asked = {}, training = {}, model = {}, device = {} } = values;
  return {
    run,
    files,
    baseModel,
    data: { ...data, ...columnsOf(values) },
    perDeviceEvalBatchSize: training["perDeviceEvalBatchSize"] as number | undefined,
    tokenBudget: training["tokenBudget"] as number | undefined,
    quantization: quantizationName(values),
    allowNonFinite: training["allowNonFinite"] as boolean | undefined,
    embeddings: model["embeddings"] as InferenceRequest["embeddings"],
    keepDequantized: model["keepDequantized"] as boolean | undefined,
    device,
    trustRemoteCode,
    task: asked["task"] as InferenceRequest["task"],
    labelColumns: asked["labelColumns"] as InferenceRequest["labelColumns"],
  };
}
