/** Options of the training loop: transformers' TrainingArguments in camelCase, with their defaults where they serve. */
import { defineOptions, option, type InferInput, type InferOptions } from "../../core/options/options.ts";
import { choiceOf, MAX_SAMPLES, samples } from "./data-options.ts";
import { intervalOptions, intervalProblems } from "./interval-options.ts";
import { camelKeys, SCHEDULE_NAMES, scheduleFactory } from "./schedules.ts";

const count = "number.integer >= 1";

export const trainingOptions = defineOptions(
  {
    outputDir: option("string", { default: "output", help: "folder of the run: record, checkpoints, report" }),
    perDeviceTrainBatchSize: option(samples, { default: 8, help: "samples of one micro-batch in training" }),
    perDeviceEvalBatchSize: option(samples, { default: 8, help: "samples of one batch in evaluation" }),
    gradientAccumulationSteps: option(samples, { default: 1, help: "micro-batches of one optimizer step" }),
    batchScaling: option("'global' | 'per-device'", {
      default: "global",
      help: "with several ranks: global keeps the step's samples whatever their number, so that the run stays the same; per-device multiplies them by it, as DDP does",
    }),
    tokenBudget: option(count, {
      optional: true,
      help: "most tokens of one micro-batch; the step's samples are cut by it and the gradient stays the same",
    }),
    deterministic: option("boolean", {
      default: false,
      help: "add the gradients of micro-batches in a fixed order, so that any number of ranks gives the same bytes; slower, and the host holds a gradient for each micro-batch (with a fixed tokenBudget or memoryBudget)",
    }),
    learningRate: option("number >= 0", { default: 5e-5, help: "peak learning rate" }),
    headLearningRate: option("number >= 0", {
      optional: true,
      help: "peak learning rate of the classification head (default: learningRate); it follows the same schedule",
    }),
    loss: option("'auto' | 'cross-entropy' | 'soft-label' | 'pairwise'", {
      default: "auto",
      help: "auto: soft-label where data.softLabelColumns gives them, else cross-entropy; pairwise: Bradley-Terry over the scores of A and B",
    }),
    pairwiseWeight: option("0 <= number <= 1", {
      default: 1,
      help: "share of Bradley-Terry in the loss pairwise; cross entropy has the rest and trains the tie's logit",
    }),
    classWeights: option("number[]", { optional: true, help: "the loss of each class is multiplied by its number" }),
    labelSmoothingFactor: option("0 <= number < 1", {
      default: 0,
      help: "share of each label that is spread over all classes in training's cross entropy; evaluation has none",
    }),
    softLabelWeight: option("0 <= number <= 1", {
      default: 1,
      help: "share of the soft labels in the loss, where data.softLabelColumns gives them; the label has the rest",
    }),
    softLabelTemperature: option("number > 0", {
      default: 1,
      help: "temperature of the soft labels' term (knowledge distillation)",
    }),
    loraplusLrRatio: option("number > 0", {
      optional: true,
      help: "LoRA+: times learningRate for LoRA's B and for parameters of one dimension, as peft's create_loraplus_optimizer",
    }),
    loraplusWeightDecay: option("number >= 0", {
      optional: true,
      help: "weight decay with LoRA+ (default: the optimizer's)",
    }),
    neftuneNoiseAlpha: option("number > 0", {
      optional: true,
      help: "NEFTune: uniform noise of alpha / sqrt(tokens x hidden size) on the embeddings in training (default: none)",
    }),
    lrSchedulerType: option(choiceOf(SCHEDULE_NAMES), {
      default: "linear",
      help: "how the learning rate goes after warmup, as transformers has it; a config's schedule stands in its place",
    }),
    lrSchedulerKwargs: option("object", {
      default: {},
      help: "options of lrSchedulerType: numCycles, power, lrEnd, minLr, minLrRate, timescale, numDecaySteps ...; num_cycles as well",
    }),
    warmupSteps: option("number >= 0", {
      default: 0,
      help: "steps of warmup, or below 1 their share of all; wins over warmupRatio",
    }),
    warmupRatio: option("0 <= number <= 1", { default: 0, help: "warmup as a share of all steps" }),
    numTrainEpochs: option("number > 0", { default: 3, help: "passes over the data; a fraction is allowed" }),
    maxSteps: option("number.integer >= 1 | -1", { default: -1, help: "optimizer steps; wins over numTrainEpochs" }),
    maxGradNorm: option("number >= 0", { default: 1, help: "clip the global gradient norm to this; 0 never clips" }),
    memory: option("'lean' | 'auto' | 'fast'", {
      default: "auto",
      help: "what is left open of gradientCheckpointing, tokenBudget and the model's embeddings and keepDequantized: auto is the fastest that fits the GPU, lean runs every block again and keeps the token table on the host, fast computes nothing twice",
    }),
    gradientCheckpointing: option("'none' | 'block' | number.integer >= 1", {
      optional: true,
      help: "keep only a block's input and run it again in the backward pass: less memory, more time; every block, or so many of the first (default: as memory chooses)",
    }),
    ...intervalOptions,
    allowNonFinite: option("boolean", {
      default: false,
      help: "load tensors of the base and of the adapter that hold NaN or infinite values (default: refuse them by name)",
    }),
    runName: option("string", { optional: true, help: "name of the run for trackers (default: outputDir)" }),
    loggingDir: option("string", {
      optional: true,
      help: "folder of files that reporters write, such as TensorBoard's (default: runs in outputDir); one for each run",
    }),
    seed: option("number.integer >= 0", { default: 42, help: "seed of data order, initialization and dropout" }),
    shuffle: option("boolean", { default: true, help: "shuffle the training rows each epoch" }),
    overwriteOutputDir: option("boolean", { default: false, help: "replace a run that outputDir already holds" }),
    initAdapter: option("string", {
      optional: true,
      help: "folder of a PEFT adapter to start from, or its name on the hub",
    }),
    resumeFromCheckpoint: option("boolean | string", {
      default: false,
      help: "go on from a checkpoint: its folder, or true for the newest in outputDir",
    }),
  },
  ({
    perDeviceTrainBatchSize,
    gradientAccumulationSteps,
    outputDir,
    initAdapter,
    resumeFromCheckpoint,
    classWeights,
    loss,
    pairwiseWeight,
    softLabelTemperature,
    softLabelWeight,
    lrSchedulerType,
    lrSchedulerKwargs,
    warmupSteps,
    labelSmoothingFactor,
    loraplusLrRatio,
    loraplusWeightDecay,
    ...rest
  }) => [
    ...(loraplusWeightDecay !== undefined && loraplusLrRatio === undefined
      ? ["loraplusWeightDecay: got it without loraplusLrRatio, which leaves it unused"]
      : []),
    ...(labelSmoothingFactor !== 0 && loss === "pairwise"
      ? [`labelSmoothingFactor: got ${labelSmoothingFactor} with loss pairwise, which leaves it unused`]
      : []),
    ...intervalProblems(rest),
    ...scheduleProblems(lrSchedulerType, lrSchedulerKwargs),
    ...(warmupSteps > 1 && !Number.isInteger(warmupSteps)
      ? [`warmupSteps: got ${warmupSteps}, expected a whole number, or a share below 1`]
      : []),
    ...(perDeviceTrainBatchSize * gradientAccumulationSteps > MAX_SAMPLES
      ? [
          `perDeviceTrainBatchSize: got ${perDeviceTrainBatchSize} with gradientAccumulationSteps ${gradientAccumulationSteps}, ` +
            `${perDeviceTrainBatchSize * gradientAccumulationSteps} samples a step, expected at most ${MAX_SAMPLES}: lower one of them`,
        ]
      : []),
    ...(initAdapter !== undefined && resumeFromCheckpoint !== false
      ? ["initAdapter: got an adapter to start from together with resumeFromCheckpoint, expected only one of them"]
      : []),
    ...(classWeights?.some((weight) => !(weight >= 0 && weight < Infinity)) === true
      ? [`classWeights: got ${classWeights.join(", ")}, expected numbers >= 0`]
      : []),
    ...(classWeights?.every((weight) => weight === 0) === true
      ? [`classWeights: got ${classWeights.join(", ") || "an empty list"}, expected one above 0, or nothing is learnt`]
      : []),
    ...(outputDir.trim() === "" ? [`outputDir: got ${JSON.stringify(outputDir)}, expected a folder`] : []),
    ...(loss === "pairwise" && (classWeights !== undefined || softLabelTemperature !== 1 || softLabelWeight !== 1)
      ? ["loss: got pairwise with classWeights, softLabelWeight or softLabelTemperature, which are of cross entropy"]
      : []),
    ...(loss !== "pairwise" && pairwiseWeight !== 1
      ? [`pairwiseWeight: got ${pairwiseWeight} with loss ${loss}, expected loss pairwise`]
      : []),
  ],
);

function scheduleProblems(type: (typeof SCHEDULE_NAMES)[number], kwargs: object): readonly string[] {
  const checked = scheduleFactory(type).options.check(camelKeys(kwargs), "lrSchedulerKwargs");
  return checked.ok ? [] : checked.problems.map((problem) => `${problem} (lrSchedulerType ${type})`);
}

export type TrainingOptionsInput = InferInput<typeof trainingOptions>;
export type TrainingOptions = InferOptions<typeof trainingOptions>;

/** Options of soft labels that are not at their defaults: where no loss reads them, that is a mistake. */
export function changedSoftLabelOptions(
  training: TrainingOptions,
): readonly { readonly option: string; readonly got: number }[] {
  const { shape } = trainingOptions;
  return (["softLabelWeight", "softLabelTemperature"] as const)
    .filter((option) => training[option] !== shape[option].default)
    .map((option) => ({ option, got: training[option] }));
}
