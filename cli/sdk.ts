/** What the command line needs of the SDK; the root index.ts provides it. */
import type { PluginFactory } from "../core/plugin/factory.ts";
import type { Config } from "../runtime/config/config.ts";
import type { DeviceOptions } from "../runtime/config/device-options.ts";
import type { EventOptions, TrainOptions, TrainResult } from "../runtime/run/train-types.ts";
import type { BenchCommandOptions } from "../sdk/bench-options.ts";
import type { BenchResult } from "../sdk/bench.ts";
import type { CrossValidation } from "../sdk/cross-validate.ts";
import type { DoctorReport } from "../sdk/doctor.ts";
import type { DryRunResult } from "../sdk/dry-run.ts";
import type {
  EvaluateRequest,
  EvaluateResult,
  PredictOptions,
  PredictRequest,
  PredictResult,
} from "../sdk/inference.ts";
import type { InspectReport } from "../sdk/inspect.ts";
import type { MergeRequest, MergeResult } from "../sdk/merge/index.ts";
import type { PlanCommandOptions } from "../sdk/plan-options.ts";
import type { PlanReport } from "../sdk/plan.ts";

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
