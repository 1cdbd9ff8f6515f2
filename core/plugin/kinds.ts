/**
 * The four kinds of plugin: what each gets, what it gives, and the `defineX` that declares one. `value.ts` says how a
 * plugin is a value.
 */
import type { Batch } from "../compute/batch.ts";
import type { AdaptedLinear, LinearSpec, Nf4Weight } from "../compute/linear.ts";
import type { ParameterSet, ParameterShape, ParameterSpec } from "../compute/parameters.ts";
import type { Tape } from "../compute/recorder.ts";
import type { DType, Tensor } from "../compute/tensor.ts";
import type { Gpu } from "../device/gpu.ts";
import type { PythonJson } from "../formats/python-json.ts";
import type { OptionShape, OptionsInput } from "../options/options.ts";
import { completeAdapter, completeMetric, completeOptimizer, completeSource } from "./contract.ts";
import { definePlugin, type Plugin, type PluginDefinition, type TypedPluginFactory } from "./value.ts";

// ---- model

/** What a model gets. */
export interface ModelContext {
  readonly gpu: Gpu;
  /** Classes; from the data or the adapter. */
  readonly numLabels: number;
  /** Seed of the head's first values. */
  readonly seed: number;
  /** The memory plan's choice; undefined without one. Options that the user set win over it. */
  readonly placement?: ModelPlacement | undefined;
  /** True: NaN and infinite values of the weights are loaded as they are; for `openWeights`. */
  readonly allowNonFinite?: boolean | undefined;
  /** Bytes read and in total, for a progress line. */
  readonly onProgress?: ((done: number, total: number) => void) | undefined;
}

/** Where a model's weights lie and in which forms; what the memory plan chooses where the config leaves it open. */
export interface ModelPlacement {
  readonly embeddings: "device" | "host";
  /** Keep f16 copies of the linears for forward passes. */
  readonly keepDequantised: boolean;
}

/** What of it the user's options settle; undefined is open. */
export type GivenPlacement = { readonly [K in keyof ModelPlacement]: ModelPlacement[K] | undefined };

/** The user's options before the plan's choice before what costs least to think about: all on the device, packed. */
export function settlePlacement(given: GivenPlacement, planned: ModelPlacement | undefined): ModelPlacement {
  return {
    embeddings: given.embeddings ?? planned?.embeddings ?? "device",
    keepDequantised: given.keepDequantised ?? planned?.keepDequantised ?? false,
  };
}

/** What is known of a model before its weights are read. */
export interface ModelOutline {
  /** Linears that an adapter may wrap, in Hugging Face's order. */
  readonly linears: readonly LinearSpec[];
  /** Trainable parameters of the head, saved beside the adapter whatever the adapter is. */
  readonly head: readonly ParameterShape[];
  /** Every tensor of the frozen base as Hugging Face counts it. */
  readonly baseParameters: readonly ParameterRow[];
  /** Tokens the embedding knows. */
  readonly vocabSize: number;
  /** Classes where the checkpoint fixes them. */
  readonly numLabels: number | undefined;
}

/**
 * Which blocks keep only their input and run again in backward: none, every `block`, or so many of the first ones (backward
 * comes to them last, when the others have given their memory back). Gradients are the same, to the bit.
 */
export type Checkpointing = "none" | "block" | number;

/** How a forward pass is run. */
export interface ForwardOptions {
  readonly checkpointing: Checkpointing;
  /** Dropout is on in training only. */
  readonly training: boolean;
  /** Called with the embedding's output and each block's, [N,C] f32, as they are encoded; copy what you want to read. */
  readonly onHidden?: ((hidden: Tensor) => void) | undefined;
}

/** One row of `inspect`'s table. */
export interface ParameterRow {
  readonly name: string;
  readonly shape: readonly number[];
  /** As the checkpoint stores it: `NF4`, `BF16` … */
  readonly dtype: string;
}

/** A loaded model. */
export interface Model {
  /** First values of the head's parameters, in the outline's order. */
  readonly head: readonly ParameterSpec[];
  /** Facts for the run record, e.g. whether attention soft-capping is on. */
  readonly record: Readonly<Record<string, unknown>>;
  weight(linear: LinearSpec): Nf4Weight;
  /** Installs the adapter's linears and the head's parameters; called once before the first forward. */
  bind(linears: ReadonlyMap<string, AdaptedLinear>, parameters: ParameterSet): void;
  /** [B, numLabels] f32 logits of a packed batch. */
  forward(tape: Tape, batch: Batch, options: ForwardOptions): Tensor;
  destroy(): void;
}

/**
 * What a model plugin makes from its options, before a GPU is open. `checkpoint` is the folder that also holds the
 * tokenizer.
 */
export interface ModelSource {
  readonly checkpoint: string;
  /** The parts of `ModelPlacement` that it obeys, each with what is already settled; without it the plan has no say. */
  readonly placement?: GivenPlacement | undefined;
  /** What the options change of config.json, in its own spelling; `merge` writes it. */
  readonly configChanges?: Readonly<Record<string, PythonJson>> | undefined;
  /** From config.json and, where there are any, the headers; reads no weights. @throws ModelError */
  outline(numLabels: number): Promise<ModelOutline>;
  /** Streams the weights to the GPU. @throws ModelError, DeviceError */
  load(context: ModelContext): Promise<Model>;
}

/** A configured model, as a config holds it. */
export type ModelPlugin = Plugin<"model", readonly [], ModelSource>;

/** What a model's author writes. */
export interface ModelDefinition<S extends OptionShape> extends PluginDefinition<S, readonly [], ModelSource> {
  /**
   * Values of config.json's model_type that it reads: `--model <folder or hub id>` then finds it. Such a model has an option
   * `checkpoint`, and may have `revision`; `create` gets the folder, downloaded where need be.
   */
  readonly modelTypes?: readonly string[];
}

/** A model's factory. */
export interface ModelFactory<S extends OptionShape = OptionShape> extends TypedPluginFactory<
  "model",
  S,
  readonly [],
  ModelSource
> {
  readonly modelTypes: readonly string[];
}

/**
 * Declares a model.
 * @example
 * // A model in front of another: what `create` returns is a ModelSource.
 * export const logged = defineModel({
 *   name: "logged",
 *   options: defineOptions({ checkpoint: option("string", { help: "folder of the checkpoint" }) }),
 *   create({ checkpoint }) {
 *     const source = gemma2({ checkpoint }).create();
 *     return {
 *       checkpoint,
 *       outline: (numLabels) => source.outline(numLabels),
 *       async load(context) {
 *         console.log(`loading onto ${context.gpu.info.adapter.device}`);
 *         return source.load(context);
 *       },
 *     };
 *   },
 * });
 */
export function defineModel<const S extends OptionShape>(definition: ModelDefinition<S>): ModelFactory<S> {
  const factory = definePlugin("model", definition, { parts: { modelTypes: "list?" }, complete: completeSource });
  return Object.assign(factory, { modelTypes: definition.modelTypes ?? [] });
}

// ---- adapter

/** What an adapter gets. */
export interface AdapterContext {
  readonly linears: readonly LinearSpec[];
  /** Head parameters, which the adapter's files carry too. */
  readonly head: readonly ParameterShape[];
  /** Written into the adapter's config. */
  readonly baseModel: string;
  readonly seed: number;
}

/** An adapter over a model's linears. */
export interface Adapter {
  /** Trainable parameters in file order, with their first values (the head's are not among them). */
  readonly parameters: readonly ParameterSpec[];
  /**
   * Sets first values that depend on the base's weights, on the GPU; called once before `adapt`, and not where a saved
   * adapter gives the values.
   */
  initialise?(gpu: Gpu, weightOf: (linear: LinearSpec) => Nf4Weight, parameters: ParameterSet): void;
  /** The linear with this adapter around it; the bare linear where the adapter leaves it alone. */
  adapt(spec: LinearSpec, weight: Nf4Weight, parameters: ParameterSet): AdaptedLinear;
  /**
   * Changes a dense weight [out,in] f32, row-major and in place, so that the linear alone computes what it computes with this
   * adapter around it (dropout off). Called for every linear; one that the adapter leaves alone keeps its weight. An
   * adapter without this method cannot be merged.
   * @param values by parameter name, as `load` gives them
   */
  mergeWeight?(
    linear: LinearSpec,
    weight: Float32Array<ArrayBuffer>,
    values: ReadonlyMap<string, Float32Array<ArrayBuffer>>,
  ): void;
  /** The same for the linear's bias [out] f32, where it has one and the adapter changes it. */
  mergeBias?(
    linear: LinearSpec,
    bias: Float32Array<ArrayBuffer>,
    values: ReadonlyMap<string, Float32Array<ArrayBuffer>>,
  ): void;
  /** Writes the adapter's files, head included, into a folder that exists. */
  save(directory: string, values: ReadonlyMap<string, Float32Array<ArrayBuffer>>): Promise<void>;
  /**
   * Values by parameter name (head included) from a folder that `save` or PEFT wrote.
   * @throws ModelError naming the tensor and both shapes where they differ
   */
  load(directory: string): Promise<Map<string, Float32Array<ArrayBuffer>>>;
}

/** A configured adapter, as a config holds it. */
export type AdapterPlugin = Plugin<"adapter", readonly [AdapterContext], Promise<Adapter>>;

/** What an adapter's author writes. */
export interface AdapterDefinition<S extends OptionShape> extends PluginDefinition<
  S,
  readonly [AdapterContext],
  Promise<Adapter>
> {
  /** Whether an adapter_config.json is of this adapter. */
  reads(config: Readonly<Record<string, unknown>>): boolean;
  /** The options that an adapter_config.json stands for. @throws ModelError where it asks for what this adapter lacks */
  optionsFrom(config: Readonly<Record<string, unknown>>): OptionsInput<S>;
}

/** An adapter's factory, which can also be configured by a saved adapter. */
export interface AdapterFactory<S extends OptionShape = OptionShape> extends TypedPluginFactory<
  "adapter",
  S,
  readonly [AdapterContext],
  Promise<Adapter>
> {
  reads(config: Readonly<Record<string, unknown>>): boolean;
  /** The adapter that an adapter_config.json describes. */
  fromConfig(config: Readonly<Record<string, unknown>>): AdapterPlugin;
}

/**
 * Declares an adapter.
 * @example
 * // Trains the head alone: no linear is adapted. Its files are the head's tensors and a config that names it.
 * export const headOnly = defineAdapter({
 *   name: "head-only",
 *   options: defineOptions({}),
 *   reads: (config) => config["peft_type"] === "HEAD_ONLY",
 *   optionsFrom: () => ({}),
 *   create: async (_options, { head }) => ({
 *     parameters: [],
 *     adapt: (spec, weight) => ({ spec, weight }),
 *     save: (directory, values) =>
 *       saveAdapterFiles(directory, { config: '{"peft_type":"HEAD_ONLY"}', card: "", shapes: head, values }),
 *     load: (directory) => loadAdapterTensors(directory, head),
 *   }),
 * });
 */
export function defineAdapter<const S extends OptionShape>(definition: AdapterDefinition<S>): AdapterFactory<S> {
  const factory = definePlugin("adapter", definition, {
    parts: { reads: "function", optionsFrom: "function" },
    complete: async (name, made) => completeAdapter(name, await made),
  });
  return Object.assign(factory, {
    reads: (config: Readonly<Record<string, unknown>>) => definition.reads(config),
    fromConfig: (config: Readonly<Record<string, unknown>>) => factory.configure(definition.optionsFrom(config)),
  });
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

/** A configured optimizer, as a config holds it. */
export type OptimizerPlugin = Plugin<"optimizer", readonly [OptimizerContext], Optimizer>;

/**
 * Declares an optimizer.
 * @example
 * // p -= lr p: an optimizer that looks at no gradient. examples/one-file-plugin.ts has a kernel of its own.
 * export const shrink = defineOptimizer({
 *   name: "shrink",
 *   options: defineOptions({ times: option("number >= 0", { default: 1, help: "times the learning rate" }) }),
 *   create: ({ times }, { gpu, parameters }) => ({
 *     step({ learningRate }) {
 *       for (const { value } of parameters.slabs) {
 *         const code = "@group(0) @binding(0) var<storage, read_write> p: array<f32>;\n" +
 *           "@compute @workgroup_size(256) fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) n: vec3<u32>," +
 *           "@builtin(local_invocation_index) lane: u32) { let i = group_index(wg, n) * 256u + lane;" +
 *           "if (i < params.size) { p[i] -= params.rate * p[i]; } }";
 *         const size = elementCount(value.shape);
 *         const kernel = gpu.kernel("shrink", () => ({ code, bindings: ["write"], uniforms: { size: "u32", rate: "f32" } }));
 *         gpu.dispatch(kernel, [value], { size, rate: times * learningRate }, gridFor(size / 256));
 *       }
 *     },
 *     save: async () => new Map(),
 *     load() {},
 *     destroy() {},
 *   }),
 * });
 */
export function defineOptimizer<const S extends OptionShape>(
  definition: PluginDefinition<S, readonly [OptimizerContext], Optimizer>,
): TypedPluginFactory<"optimizer", S, readonly [OptimizerContext], Optimizer> {
  return definePlugin("optimizer", definition, { complete: completeOptimizer });
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

/** A configured metric, as a config holds it. */
export type MetricPlugin = Plugin<"metric", readonly [MetricContext], Metric>;

/**
 * Declares a metric.
 * @example
 * export const topTwo = defineMetric({
 *   name: "top-two",
 *   options: defineOptions({}),
 *   create(_options, { numLabels }) {
 *     let [right, rows] = [0, 0];
 *     return {
 *       add: (logits, labels) =>
 *         eachRow(logits, labels, numLabels, (row, label) => {
 *           rows++;
 *           if (row.filter((value) => value > row[label]!).length < 2) right++;
 *         }),
 *       result: () => ({ top_two: right / rows }),
 *     };
 *   },
 * });
 */
export function defineMetric<const S extends OptionShape>(
  definition: PluginDefinition<S, readonly [MetricContext], Metric>,
): TypedPluginFactory<"metric", S, readonly [MetricContext], Metric> {
  return definePlugin("metric", definition, { complete: completeMetric });
}
