/**
 * The four kinds of plugin: what each gets, what it gives, and the `defineX` that declares one. `plugin-value.ts` says how a
 * plugin is a value.
 */
import type { Batch } from "./batch.ts";
import type { Gpu } from "./device/gpu.ts";
import type { AdaptedLinear, LinearSpec, Nf4Weight } from "./linear.ts";
import type { OptionShape } from "./options.ts";
import type { ParameterSet, ParameterSpec } from "./parameters.ts";
import { definePlugin, type Plugin, type PluginDefinition, type TypedPluginFactory } from "./plugin-value.ts";
import type { Tape } from "./recorder.ts";
import type { DType, Tensor } from "./tensor.ts";

// ---- model

/** What a model gets. */
export interface ModelContext {
  readonly gpu: Gpu;
  /** Folder of the checkpoint: config.json, safetensors. */
  readonly directory: string;
  /** Classes; from the data or the adapter. */
  readonly numLabels: number;
  /** Seed of the head's first values. */
  readonly seed: number;
  /** Bytes done and in total, for a progress line. */
  readonly onProgress?: ((done: number, total: number) => void) | undefined;
  /** False builds the structure from the headers without reading or allocating weights (`inspect`, `plan`). */
  readonly weights?: boolean;
}

/** How a forward pass is run. */
export interface ForwardOptions {
  /** `block` keeps only each block's input and runs the block again in backward. */
  readonly checkpointing: "none" | "block";
  /** Dropout is on in training only. */
  readonly training: boolean;
}

/** One row of `inspect`'s table. */
export interface ParameterRow {
  readonly name: string;
  readonly shape: readonly number[];
  readonly dtype: string;
  readonly trainable: boolean;
}

/** A loaded model. */
export interface Model {
  /** Linears that an adapter may wrap, in Hugging Face's order. */
  readonly linears: readonly LinearSpec[];
  /** Trainable parameters of the head, saved beside the adapter whatever the adapter is. */
  readonly head: readonly ParameterSpec[];
  readonly numLabels: number;
  /** Token ids as the checkpoint defines them. */
  readonly tokens: { readonly bos: number | undefined; readonly eos: number | undefined; readonly pad: number | undefined };
  /** Every tensor of the frozen base as Hugging Face counts it. */
  readonly baseParameters: readonly ParameterRow[];
  /** Facts for the run record, e.g. whether attention soft-capping is on. */
  readonly record: Readonly<Record<string, unknown>>;
  weight(linear: LinearSpec): Nf4Weight;
  /** Installs the adapter's linears and the head's parameters; called once before the first forward. */
  bind(linears: ReadonlyMap<string, AdaptedLinear>, parameters: ParameterSet): void;
  /** [B, numLabels] f32 logits of a packed batch. */
  forward(tape: Tape, batch: Batch, options: ForwardOptions): Tensor;
  destroy(): void;
}

export type ModelPlugin = Plugin<"model", readonly [ModelContext], Promise<Model>>;

/**
 * Declares a model.
 * @example export const gemma2 = defineModel({ name: "gemma2", options, create: (options, context) => loadGemma2(options, context) });
 */
export function defineModel<const S extends OptionShape>(
  definition: PluginDefinition<S, readonly [ModelContext], Promise<Model>>,
): TypedPluginFactory<"model", S, readonly [ModelContext], Promise<Model>> {
  return definePlugin("model", definition);
}

// ---- adapter

/** What an adapter gets. */
export interface AdapterContext {
  readonly linears: readonly LinearSpec[];
  /** Head parameters, which the adapter's files carry too. */
  readonly head: readonly ParameterSpec[];
  /** Written into the adapter's config. */
  readonly baseModel: string;
  readonly numLabels: number;
  readonly seed: number;
}

/** An adapter over a model's linears. */
export interface Adapter {
  /** Trainable parameters in file order, with their first values (the head's are not among them). */
  readonly parameters: readonly ParameterSpec[];
  /** The linear with this adapter around it; the bare linear where the adapter leaves it alone. */
  adapt(spec: LinearSpec, weight: Nf4Weight, parameters: ParameterSet): AdaptedLinear;
  /** Writes the adapter's files, head included, into a folder that exists. */
  save(directory: string, values: ReadonlyMap<string, Float32Array<ArrayBuffer>>): Promise<void>;
  /**
   * Values by parameter name (head included) from a folder that `save` or PEFT wrote.
   * @throws ModelError naming the tensor and both shapes where they differ
   */
  load(directory: string): Promise<Map<string, Float32Array<ArrayBuffer>>>;
}

export type AdapterPlugin = Plugin<"adapter", readonly [AdapterContext], Promise<Adapter>>;

/** Declares an adapter. */
export function defineAdapter<const S extends OptionShape>(
  definition: PluginDefinition<S, readonly [AdapterContext], Promise<Adapter>>,
): TypedPluginFactory<"adapter", S, readonly [AdapterContext], Promise<Adapter>> {
  return definePlugin("adapter", definition);
}

// ---- optimizer

/** What an optimizer gets. */
export interface OptimizerContext {
  readonly gpu: Gpu;
  readonly parameters: ParameterSet;
}

/** One update. */
export interface OptimizerStep {
  readonly learningRate: number;
  /** 1 for the first update that is applied; skipped steps do not count. */
  readonly update: number;
  /**
   * [4] f32 on the GPU: the factor that unscales and clips gradients; 1 where the step must be skipped (a gradient was
   * not finite), else 0; the gradient norm before clipping; unused.
   */
  readonly control: Tensor;
}

/** A tensor of optimizer state on the host. */
export interface SavedTensor {
  readonly dtype: DType;
  readonly shape: readonly number[];
  readonly data: Uint8Array<ArrayBuffer>;
}

/** Updates parameters from their gradients, in place, on the GPU. */
export interface Optimizer {
  step(step: OptimizerStep): void;
  /** State by name, exact. */
  save(): Promise<Map<string, SavedTensor>>;
  /** @throws ModelError naming a tensor that is missing or of another shape */
  load(state: ReadonlyMap<string, SavedTensor>): void;
  destroy(): void;
}

export type OptimizerPlugin = Plugin<"optimizer", readonly [OptimizerContext], Optimizer>;

/** Declares an optimizer. */
export function defineOptimizer<const S extends OptionShape>(
  definition: PluginDefinition<S, readonly [OptimizerContext], Optimizer>,
): TypedPluginFactory<"optimizer", S, readonly [OptimizerContext], Optimizer> {
  return definePlugin("optimizer", definition);
}

// ---- metric

/** What a metric gets. */
export interface MetricContext {
  readonly numLabels: number;
}

/** Folds logits and labels into named numbers; order and batching must not matter. */
export interface Metric {
  /** @param logits [B, numLabels] row-major; @param labels [B] */
  add(logits: Float32Array, labels: ArrayLike<number>): void;
  /** E.g. `{ log_loss: 0.9371 }`; names appear as `eval_<name>`. */
  result(): Readonly<Record<string, number>>;
}

export type MetricPlugin = Plugin<"metric", readonly [MetricContext], Metric>;

/** Declares a metric. */
export function defineMetric<const S extends OptionShape>(
  definition: PluginDefinition<S, readonly [MetricContext], Metric>,
): TypedPluginFactory<"metric", S, readonly [MetricContext], Metric> {
  return definePlugin("metric", definition);
}

