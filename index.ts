/** qlora's SDK: `import { defineConfig, train } from "qlora"`. Here core, kernels and plugins are put together. */
/* oxlint-disable typescript/triple-slash-reference -- whoever compiles this file needs the types of what is imported as text */
/// <reference path="./wgsl.d.ts" />
/// <reference path="./runtime/report/assets.d.ts" />
import { readFile } from "node:fs/promises";
import { ConfigError } from "./core/errors.ts";
import { option } from "./core/options/options.ts";
import { readOptionText } from "./core/options/parse.ts";
import { isPluginFactory } from "./core/plugin/factory.ts";
import type { ModelPlacement } from "./core/plugin/model.ts";
import { adamW8bit } from "./plugins/adamw8bit/index.ts";
import { lora } from "./plugins/lora/index.ts";
import { type Config, requireConfig } from "./runtime/config/config.ts";
import { type DeviceOptions, deviceOptions } from "./runtime/config/device-options.ts";
import { MAX_TOKENS, sampleTokens } from "./runtime/config/data-options.ts";
import type { ResolveContext } from "./runtime/config/resolve.ts";
import type { InferenceRequest } from "./runtime/inference/adapter-run.ts";
import { workloadOf } from "./runtime/planning/training-plan.ts";
import {
  checkEventOptions,
  checkTrainOptions,
  type EventOptions,
  type TrainOptions,
  type TrainResult,
  type TrainStep,
} from "./runtime/run/train-types.ts";
import { trainSteps } from "./runtime/run/train.ts";
import { openBaseModel } from "./runtime/session/base-model.ts";
import { type BenchCommandOptions, benchOptions } from "./sdk/bench-options.ts";
import { benchSource, writeSyntheticCheckpoint } from "./sdk/bench-source.ts";
import { type BenchResult, benchSteps } from "./sdk/bench.ts";
import { type CrossValidation, crossValidate as crossValidateFolds } from "./sdk/cross-validate.ts";
import { type DoctorReport, examineDevice } from "./sdk/doctor.ts";
import { dryRun as dryRunConfig, type DryRunResult } from "./sdk/dry-run.ts";
import {
  type EvaluateRequest,
  checkPredictOptions,
  type EvaluateResult,
  evaluateAdapter,
  type PredictOptions,
  type PredictRequest,
  type PredictResult,
  predictWithAdapter,
} from "./sdk/inference.ts";
import { type InspectReport, inspectConfig, labelsOf } from "./sdk/inspect.ts";
import { mergeAdapter, type MergeRequest, type MergeResult } from "./sdk/merge/index.ts";
import { openConfigModel, type OpenedModel, type OpenModelOptions } from "./sdk/open-model.ts";
import { type PlanCommandOptions, planOptions } from "./sdk/plan-options.ts";
import { type PlanReport, reportPlan } from "./sdk/plan.ts";
import { selfTest } from "./sdk/self-test.ts";

export { type Config, type ConfigInput, defineConfig } from "./runtime/config/config.ts";
export { type AverageAdaptersRequest, type AverageAdaptersResult, averageAdapters } from "./sdk/average.ts";
export { ensemble, type EnsembleRequest, type EnsembleResult } from "./sdk/ensemble.ts";
export { ConfigError, DataError, DeviceError, ModelError, PluginError, QloraError } from "./core/errors.ts";
export type { RunEvent, RunListener } from "./runtime/events.ts";
export type { ComputeGradients, GradientStep } from "./runtime/training/gradients.ts";
export { defineLoss, type Loss, type LossDefinition, type LossInput, type LossOutput } from "./runtime/config/loss.ts";
export { resolveModel, type ResolvedModel, type ResolveOptions } from "./runtime/hub/index.ts";
export { formatProbabilities, type ProbabilityRow, type ProbabilityTable } from "./sdk/probabilities.ts";
export { writeFileAtomic } from "./runtime/files/files.ts";
export { bothEmpty, identicalAnswers, type PostProcess } from "./sdk/post-process.ts";
export type { ArenaRow } from "./runtime/data/formats/arena.ts";
export type { DataRow } from "./runtime/data/formats/index.ts";
export { compareRuns, type RunComparison } from "./sdk/compare.ts";
export { listRuns, type RunSummary, type UnreadableRun } from "./sdk/runs.ts";
export { lmsysKaggle, lmsysSeed, type Preset, presets } from "./sdk/presets.ts";
export { openGpu, type OpenOptions } from "./runtime/device/open.ts";
export { type RunVerification, type VerifiedPart, verifyRun, type VerifyOptions } from "./sdk/verify.ts";
export { type RunWatch, watchRun, type WatchOptions } from "./runtime/report/watch.ts";
export { version } from "./core/util/version.ts";
export type {
  CrossValidation,
  DoctorReport,
  DryRunResult,
  EvaluateRequest,
  EvaluateResult,
  EventOptions,
  InferenceRequest,
  InspectReport,
  MergeRequest,
  MergeResult,
  OpenedModel,
  OpenModelOptions,
  PlanReport,
  PredictOptions,
  PredictRequest,
  PredictResult,
  TrainOptions,
  TrainResult,
  TrainStep,
};

/** Shipped plugins are loaded when a name is looked up: most of them import this very module, as a third party's do. */
async function resolveContext(): Promise<ResolveContext> {
  const plugins: Readonly<Record<string, unknown>> = await import("./plugins/index.ts");
  return { shipped: Object.values(plugins).filter((value) => isPluginFactory(value)), from: process.cwd() };
}

/**
 * A training run, one optimizer step at a time; the run's folder is complete when the loop ends.
 * @throws ConfigError, DataError, ModelError, DeviceError
 * @example for await (const step of trainer(config)) console.log(step.step, step.loss);
 */
export function trainer(config: Config, options: TrainOptions = {}): AsyncGenerator<TrainStep, TrainResult> {
  return trainSteps(requireConfig(config), checkTrainOptions(options));
}

/**
 * Trains to the end.
 * @throws ConfigError, DataError, ModelError, DeviceError
 * @example const { metrics } = await train(defineConfig({ model: gemma2({ checkpoint }), adapter: lora(), optimizer: adamW8bit(), data: { trainFiles } }));
 */
export async function train(config: Config, options?: TrainOptions): Promise<TrainResult> {
  const steps = trainer(config, options);
  for (;;) {
    const { done, value } = await steps.next();
    if (done === true) return value;
  }
}

/**
 * Trains every fold of a config's data and predicts each row by the model that did not see it; resumes by itself.
 * @throws QloraError of every kind
 * @example
 * const { data, training } = config.input;
 * const whole = defineConfig({ ...config.input, data: { ...data, nSplits: undefined }, training: { ...training, outputDir } });
 * const { folds, outOfFold } = await crossValidate(whole, 2);
 * console.log(outOfFold, folds.map(({ metrics }) => metrics["eval_log_loss"]));
 */
export async function crossValidate(
  config: Config,
  folds: number,
  options: TrainOptions = {},
): Promise<CrossValidation> {
  return crossValidateFolds(requireConfig(config), folds, checkTrainOptions(options));
}

/**
 * Metrics of a trained adapter.
 * @throws QloraError of every kind
 * @example const { metrics, samples } = await evaluate({ run, files });
 */
export async function evaluate(request: EvaluateRequest, options: EventOptions = {}): Promise<EvaluateResult> {
  const { onEvent } = checkEventOptions(options);
  return evaluateAdapter(request, await resolveContext(), onEvent);
}

/**
 * Probabilities, or logits, of every row.
 * @throws QloraError of every kind
 * @example
 * const table = await predict({ run, files, tta: "swap" });
 * await writeFileAtomic(`${outputDir}/predictions.csv`, formatProbabilities(table));
 */
export async function predict(request: PredictRequest, options: PredictOptions = {}): Promise<PredictResult> {
  return predictWithAdapter(request, await resolveContext(), checkPredictOptions(options));
}

/**
 * Writes the base model with a trained adapter merged into it as a bf16 checkpoint that transformers loads, and measures
 * how far its logits are from those of the adapter on the 4-bit base.
 * @throws QloraError of every kind
 * @example const { difference } = await merge({ run, outputDir: `${outputDir}/merged` });
 */
export async function merge(request: MergeRequest, options: EventOptions = {}): Promise<MergeResult> {
  const { onEvent } = checkEventOptions(options);
  return mergeAdapter(request, await resolveContext(), onEvent);
}

/**
 * What the device is, and whether it computes right.
 * @throws DeviceError
 * @example console.log((await doctor()).tier);
 */
export async function doctor(device: Partial<DeviceOptions> = {}): Promise<DoctorReport> {
  return examineDevice(deviceOptions.parse(device, "device"), selfTest);
}

/**
 * What a run would do, without training.
 * @throws QloraError of every kind, as `train` would
 * @example const { totalSteps, memory } = await dryRun(config);
 */
export async function dryRun(config: Config): Promise<DryRunResult> {
  return dryRunConfig(requireConfig(config));
}

/**
 * Every parameter of a config's model and adapter; reads config.json only.
 * @throws ConfigError, ModelError
 * @example const { trainableParameters, allParameters } = await inspect(config);
 */
export async function inspect(config: Config): Promise<InspectReport> {
  return inspectConfig(requireConfig(config));
}

/**
 * Opens a config's model with its adapter, to read logits and hidden states of texts.
 * @throws ConfigError, DataError, ModelError, DeviceError
 * @example
 * using model = await openModel(config);
 * const [states] = await model.hiddenStates(await model.encode(["What color is the sky?"]), 2);
 */
export async function openModel(config: Config, options?: OpenModelOptions): Promise<OpenedModel> {
  return openConfigModel(requireConfig(config), options);
}

/**
 * How much GPU memory a config's run takes in each mode of `training.memory`, from config.json and headers alone.
 * @throws ConfigError, DataError, ModelError, DeviceError
 * @example const { modes } = await plan(config, { on: "nvidia" });
 */
export async function plan(config: Config, options: Partial<PlanCommandOptions> = {}): Promise<PlanReport> {
  requireConfig(config);
  const { shape, layers, on, lengths: file } = planOptions.parse(options, "plan");
  const lengths = file === undefined ? undefined : await readLengths(file);
  const { embeddings, keepDequantized } = config.model.options as Partial<ModelPlacement>;
  const source =
    shape === undefined
      ? (await openBaseModel(config.model, { part: "config" })).source
      : benchSource({ shape, layers, embeddings, keepDequantized });
  const work = workloadOf(config, source, await labelsOf(config, source), lengths);
  return reportPlan(config, { source, work, on });
}

const lengthsOption = option(`(${sampleTokens})[]`, { help: "token counts of samples" });

/** @throws ConfigError where the file is no list of token counts */
async function readLengths(path: string): Promise<readonly number[]> {
  const text = await readFile(path, "utf8").catch((cause: unknown) => {
    throw new ConfigError("LENGTHS_INVALID", `lengths: ${path} cannot be read`, { cause });
  });
  const read = readOptionText(lengthsOption, text.trim(), "lengths");
  const counts = read.ok ? (read.value as readonly number[]) : [];
  if (counts.length > 0) return counts;
  throw new ConfigError(
    "LENGTHS_INVALID",
    `lengths: ${path} is no JSON list of token counts from 1 to ${MAX_TOKENS}, such as [512, 1024]`,
  );
}

/** Modules of the notebook's adapter. */
const BENCH_TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj"];

/** Times training steps; undefined where it only wrote a checkpoint. @throws QloraError of every kind */
export async function bench(
  options: Partial<BenchCommandOptions> & { readonly device?: Partial<DeviceOptions> | undefined },
  hooks: EventOptions = {},
): Promise<BenchResult | undefined> {
  const { device: onDevice = {}, ...steps } = options;
  const asked = benchOptions.parse(steps, "bench");
  const device = deviceOptions.parse(onDevice, "device");
  const { onEvent } = checkEventOptions(hooks);
  if (asked.writeCheckpoint !== undefined) {
    if (asked.shape === "tiny")
      throw new ConfigError(
        "BENCH_SHAPE",
        "writeCheckpoint: the tiny checkpoint ships with qlora; name another --shape",
      );
    await writeSyntheticCheckpoint(asked.writeCheckpoint, asked.shape, asked);
    return undefined;
  }
  const lengths = asked.lengths === undefined ? [asked.tokens] : await readLengths(asked.lengths);
  return benchSteps({
    source: benchSource(asked),
    adapter: lora({ rank: asked.rank, alpha: 32, dropout: asked.dropout, targetModules: BENCH_TARGETS }),
    optimizer: adamW8bit(),
    device,
    lengths,
    samplesPerStep: asked.batch,
    tokenBudget: asked.tokenBudget,
    memory: asked.memory,
    steps: asked.steps,
    warmup: asked.warmup,
    checkpointing: asked.gradientCheckpointing,
    profile: asked.profile,
    onEvent,
  });
}

export { type StepSample } from "./runtime/data/pack.ts";
