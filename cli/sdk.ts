/** What the command line needs of the SDK; the root index.ts provides it. */
import type { BenchResult } from "../core/bench.ts";
import type { DoctorReport } from "../core/doctor.ts";
import type {
  EvaluateRequest,
  EvaluateResult,
  PredictOptions,
  PredictRequest,
  PredictResult,
} from "../core/inference/inference.ts";
import type { InspectReport } from "../core/inspect.ts";
import type { MergeRequest, MergeResult } from "../core/merge/index.ts";
import type { BenchCommandOptions } from "../core/options/bench-options.ts";
import type { Config } from "../core/options/config.ts";
import type { DeviceOptions } from "../core/options/device-options.ts";
import type { PlanCommandOptions } from "../core/options/plan-options.ts";
import type { PlanReport } from "../core/planning/report.ts";
import type { PluginFactory } from "../core/plugin/value.ts";
import type { CrossValidation } from "../core/run/cross-validate.ts";
import type { DryRunResult } from "../core/run/dry-run.ts";
import type { EventOptions, TrainOptions, TrainResult } from "../core/training/train-types.ts";

export interface Sdk {
  train(config: Config, options?: TrainOptions): Promise<TrainResult>;
  crossValidate(config: Config, folds: number, options?: TrainOptions): Promise<CrossValidation>;
  dryRun(config: Config): Promise<DryRunResult>;
  evaluate(request: EvaluateRequest, options?: EventOptions): Promise<EvaluateResult>;
  predict(request: PredictRequest, options?: PredictOptions): Promise<PredictResult>;
  merge(request: MergeRequest, options?: EventOptions): Promise<MergeResult>;
  /** @throws DeviceError where no driver answers */
  doctor(device: Partial<DeviceOptions>): Promise<DoctorReport>;
  inspect(config: Config): Promise<InspectReport>;
  plan(config: Config, options: Partial<PlanCommandOptions>): Promise<PlanReport>;
  /** Undefined where it only wrote a checkpoint. */
  bench(
    options: Partial<BenchCommandOptions> & { readonly device?: Partial<DeviceOptions> | undefined },
    hooks?: EventOptions,
  ): Promise<BenchResult | undefined>;
}

/** Where the command line gets its heavy parts from; each is loaded when it is needed. */
export interface Services {
  sdk(): Promise<Sdk>;
  /** The plugins that ship with qlora. */
  plugins(): Promise<readonly PluginFactory[]>;
}
