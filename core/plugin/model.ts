/** The model: what it gets, what it gives, and `defineModel`, which declares one. */
import type { Batch } from "../compute/batch.ts";
import type { ForwardOptions } from "../compute/blocks.ts";
import type { AdaptedLinear, LinearSpec, FrozenWeight } from "../compute/linear.ts";
import type { ParameterSet, ParameterShape, ParameterSpec } from "../compute/parameters.ts";
import type { Tape } from "../compute/tape.ts";
import type { Gpu } from "../device/gpu.ts";
import type { Tensor } from "../device/tensor.ts";
import type { Host } from "../formats/bytes.ts";
import type { PythonJson } from "../formats/python-json.ts";
import type { BaseTensorSpec } from "../formats/weights.ts";
import type { OptionShape } from "../options/options.ts";
import { type Parts, complete } from "./check.ts";
import { definePlugin, type Plugin, type PluginDefinition, type TypedPluginFactory } from "./factory.ts";

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
  readonly keepDequantized: boolean;
}

/** What of it the user's options settle; undefined is open. */
export type UserPlacement = { readonly [K in keyof ModelPlacement]: ModelPlacement[K] | undefined };

/** The user's options win, then the plan's choice, else the default: on the device, packed. */
export function resolvePlacement(given: UserPlacement, planned: ModelPlacement | undefined): ModelPlacement {
  return {
    embeddings: given.embeddings ?? planned?.embeddings ?? "device",
    keepDequantized: given.keepDequantized ?? planned?.keepDequantized ?? false,
  };
}

/** What is known of a model before its weights are read. */
export interface ModelSpec {
  /** Linears that an adapter may wrap, in Hugging Face's order. */
  readonly linears: readonly LinearSpec[];
  /** Trainable parameters of the head, saved beside the adapter whatever the adapter is. */
  readonly head: readonly ParameterShape[];
  /** Every tensor of the frozen base as Hugging Face counts it. */
  readonly baseParameters: readonly BaseTensorSpec[];
  /** Tokens the embedding knows. */
  readonly vocabSize: number;
  /** Classes where the checkpoint fixes them. */
  readonly numLabels: number | undefined;
}

/** A loaded model. */
export interface Model {
  /** First values of the head's parameters, in the outline's order. */
  readonly head: readonly ParameterSpec[];
  /** Facts for the run record, e.g. whether attention soft-capping is on. */
  readonly record: Readonly<Record<string, unknown>>;
  weight(linear: LinearSpec): FrozenWeight;
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
export interface ModelLoader {
  readonly checkpoint: string;
  /** The parts of `ModelPlacement` that it obeys, each with what is already settled; without it the plan has no say. */
  readonly placement?: UserPlacement | undefined;
  /** What the options change of config.json, in its own spelling; `merge` writes it. */
  readonly configChanges?: Readonly<Record<string, PythonJson>> | undefined;
  /** From config.json and, where there are any, the headers; reads no weights. @throws ModelError */
  outline(numLabels: number): Promise<ModelSpec>;
  /** Streams the weights to the GPU. @throws ModelError, DeviceError */
  load(context: ModelContext): Promise<Model>;
}

/** A configured model, as a config holds it. */
export type ModelPlugin = Plugin<"model", readonly [Host], ModelLoader>;

/** What a model's author writes. */
export interface ModelDefinition<S extends OptionShape> extends PluginDefinition<S, readonly [Host], ModelLoader> {
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
  readonly [Host],
  ModelLoader
> {
  readonly modelTypes: readonly string[];
}

/**
 * Declares a model.
 * @example
 * // A model in front of another: what `create` returns is a ModelLoader.
 * export const logged = defineModel({
 *   name: "logged",
 *   options: defineOptions({ checkpoint: option("string", { help: "folder of the checkpoint" }) }),
 *   create({ checkpoint }, host) {
 *     const source = gemma2({ checkpoint }).create(host);
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

const SOURCE: Parts<ModelLoader> = {
  checkpoint: "string",
  placement: "object?",
  configChanges: "object?",
  outline: "function",
  load: "function",
};

const OUTLINE: Parts<ModelSpec> = {
  linears: "list",
  head: "list",
  baseParameters: "list",
  vocabSize: "number",
  numLabels: "number?",
};

const MODEL: Parts<Model> = {
  head: "list",
  record: "object",
  weight: "function",
  bind: "function",
  forward: "function",
  destroy: "function",
};

/** The source, whose outline and model are checked too when they are made. @throws PluginError */
function completeSource(name: string, made: ModelLoader): ModelLoader {
  const plugin = { kind: "model", name } as const;
  const source = complete(made, SOURCE, { ...plugin, method: "create" });
  return {
    checkpoint: source.checkpoint,
    placement: source.placement,
    configChanges: source.configChanges,
    outline: async (numLabels) => complete(await source.outline(numLabels), OUTLINE, { ...plugin, method: "outline" }),
    load: async (context) => complete(await source.load(context), MODEL, { ...plugin, method: "load" }),
  };
}
