/** What the command line needs of the SDK; the root index.ts provides it. */
import type { Config } from "../core/config.ts";
import type { DataOptionsInput } from "../core/data-options.ts";
import type { DeviceOptions } from "../core/device-options.ts";
import type { RunListener } from "../core/events.ts";
import type { PluginFactory } from "../core/plugin-value.ts";

export interface RunHooks {
  readonly onEvent?: RunListener;
  /** When aborted, the run finishes its step, saves and returns with `interrupted`. */
  readonly signal?: AbortSignal;
}

export interface TrainResult {
  readonly outputDir: string;
  /** report.html of the run, where one was written. */
  readonly report: string | undefined;
  readonly steps: number;
  readonly trainLoss: number;
  /** The last evaluation's numbers; empty where none was made. */
  readonly metrics: Readonly<Record<string, number>>;
  readonly interrupted: boolean;
}

/** What a run would do, found without training: data read, headers checked, device asked. */
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

/** A trained adapter and the data to run it on. What is undefined is taken from the run's own record. */
export interface InferenceRequest {
  /** Output folder of a run, one of its checkpoints, or a PEFT adapter's folder. */
  readonly run: string;
  /** CSV or JSONL files; empty means the run's own evaluation data. */
  readonly files: readonly string[];
  /** Folder of the base model. */
  readonly baseModel: string | undefined;
  readonly data: DataOptionsInput;
  readonly perDeviceEvalBatchSize: number | undefined;
  readonly tokenBudget: number | undefined;
  readonly device: Partial<DeviceOptions>;
}

export interface EvaluateResult {
  readonly samples: number;
  readonly metrics: Readonly<Record<string, number>>;
}

export interface PredictRequest extends InferenceRequest {
  /** Raw logits instead of probabilities. */
  readonly logits: boolean;
}

export interface PredictResult {
  /** Names of the value columns, such as `winner_model_a`. */
  readonly columns: readonly string[];
  /** In the order of the data. */
  readonly rows: readonly { readonly id: string; readonly values: readonly number[] }[];
}

export interface DoctorReport {
  readonly provider: string;
  readonly adapter: string;
  readonly driver: string;
  readonly tier: string;
  /** Every tier the device offers. */
  readonly tiers: readonly string[];
  readonly limits: Readonly<Record<string, number>>;
  readonly features: readonly string[];
  /** Small kernels against their references. */
  readonly selfTest: readonly { readonly name: string; readonly error: number; readonly tolerance: number }[];
}

export interface InspectReport {
  readonly parameters: readonly {
    readonly name: string;
    readonly shape: readonly number[];
    readonly dtype: string;
    readonly trainable: boolean;
  }[];
  readonly trainableParameters: number;
  /** As peft counts: the head's frozen original and its trained copy are two. */
  readonly allParameters: number;
}

export interface Sdk {
  train(config: Config, hooks?: RunHooks): Promise<TrainResult>;
  dryRun(config: Config, hooks?: RunHooks): Promise<DryRunResult>;
  evaluate(request: InferenceRequest, hooks?: RunHooks): Promise<EvaluateResult>;
  predict(request: PredictRequest, hooks?: RunHooks): Promise<PredictResult>;
  /** @throws DeviceError where no driver answers */
  doctor(device: Partial<DeviceOptions>): Promise<DoctorReport>;
  inspect(config: Config): Promise<InspectReport>;
}

/** Where the command line gets its heavy parts from; each is loaded when it is needed. */
export interface Services {
  sdk(): Promise<Sdk>;
  /** The plugins that ship with qlora. */
  plugins(): Promise<readonly PluginFactory[]>;
}
