/** qlora's SDK: `import { defineConfig, train } from "qlora"`. Verbs, config and errors; plugins are written against `qlora/core`. */
/* oxlint-disable typescript/triple-slash-reference -- whoever compiles this file needs the types of what is imported as text */
/// <reference path="./wgsl.d.ts" />
/// <reference path="./runtime/report/assets.d.ts" />

// ---- the config, and what may be in it
export { type Config, type ConfigInput, defineConfig } from "./runtime/config/config.ts";
export { defineLoss, type Loss, type LossDefinition, type LossInput, type LossOutput } from "./runtime/config/loss.ts";
export { distillation, type DistillationOptions } from "./runtime/training/distillation.ts";
export { lmsysKaggle, lmsysSeed, type Preset, presets } from "./sdk/presets.ts";
export type { ArenaRow } from "./runtime/data/formats/arena.ts";
export type { DataRow } from "./runtime/data/formats/index.ts";

// ---- verbs
export { train, trainer } from "./sdk/train.ts";
export type { EventOptions, TrainOptions, TrainResult, TrainStep } from "./runtime/run/train-types.ts";
export type { ComputeGradients, GradientStep } from "./runtime/training/gradients.ts";
export type { RunEvent, RunListener } from "./runtime/events.ts";
export { evaluate } from "./sdk/evaluate.ts";
export { predict } from "./sdk/predict.ts";
export type {
  EvaluateRequest,
  EvaluateResult,
  InferenceOptions,
  PredictRequest,
  PredictResult,
} from "./sdk/inference.ts";
export type { InferenceRequest } from "./runtime/inference/adapter-run.ts";
export { type CrossValidation, crossValidate } from "./sdk/cross-validate.ts";
export { distill, type DistillRequest, type DistillResult } from "./sdk/distill.ts";
export { sweep, type SweepArm, type SweepPlan, type SweepRange, type SweepResult } from "./sdk/sweep/index.ts";
export { ensemble, type EnsembleRequest, type EnsembleResult } from "./sdk/ensemble.ts";
export { bothEmpty, identicalAnswers, type PostProcess } from "./sdk/post-process.ts";
export { formatProbabilities, type ProbabilityRow, type ProbabilityTable } from "./sdk/probabilities.ts";
export { type AverageAdaptersRequest, type AverageAdaptersResult, averageAdapters } from "./sdk/average.ts";
export { quantize, type QuantizeRequest, type QuantizeResult } from "./sdk/quantize/index.ts";
export { merge, type MergeRequest, type MergeResult } from "./sdk/merge/index.ts";
export { exportWeb, type ExportWebRequest, type ExportWebResult } from "./sdk/export-web.ts";
export { type JudgeServer, serve, type ServeRequest } from "./sdk/serve/index.ts";
export { push, type PushOptions, type PushRequest, type PushResult } from "./sdk/push/index.ts";
export { type OpenedModel, openModel, type OpenModelOptions } from "./sdk/open-model.ts";

// ---- before and after a run
export { plan, type PlanReport } from "./sdk/plan.ts";
export { dryRun, type DryRunResult } from "./sdk/dry-run.ts";
export { inspect, type InspectReport } from "./sdk/inspect.ts";
export { doctor, type DoctorReport } from "./sdk/doctor.ts";
export { bench } from "./sdk/bench.ts";
export { compareRuns, type RunComparison } from "./sdk/compare.ts";
export { listRuns, type RunSummary, type UnreadableRun } from "./sdk/runs.ts";
export { type RunVerification, type VerifiedPart, verifyRun, type VerifyOptions } from "./sdk/verify.ts";
export { syncRun, type SyncOptions, type SyncResult } from "./sdk/sync.ts";
export { type RunWatch, watchRun, type WatchOptions } from "./runtime/report/watch.ts";

// ---- what scripts need beside them
export { openGpu, type OpenOptions } from "./runtime/device/open.ts";
export { resolveModel, type ResolvedModel, type ResolveOptions } from "./runtime/hub/index.ts";
export { writeFileAtomic } from "./runtime/files/files.ts";
export { ConfigError, DataError, DeviceError, ModelError, PluginError, QloraError } from "./core/errors.ts";
export { version } from "./core/util/version.ts";
