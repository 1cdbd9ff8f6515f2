/** The adapter: what it gets, what it gives, and `defineAdapter`, which declares one. */
import type { FrozenSpec, FrozenTensors } from "../compute/frozen.ts";
import type { AdaptedLinear, LinearSpec, FrozenWeight } from "../compute/linear.ts";
import type { ParameterSet, ParameterShape, ParameterSpec } from "../compute/parameters.ts";
import type { Gpu } from "../device/gpu.ts";
import type { FilesToWrite, Folder } from "../formats/bytes.ts";
import type { OptionShape, OptionsInput } from "../options/options.ts";
import { type Parts, complete } from "./check.ts";
import { definePlugin, type Plugin, type PluginDefinition, type TypedPluginFactory } from "./factory.ts";

/** What an adapter gets. */
export interface AdapterContext {
  readonly linears: readonly LinearSpec[];
  /** Head parameters, which the adapter's files carry too. */
  readonly head: readonly ParameterShape[];
  /** Written into the adapter's config. */
  readonly baseModel: string;
  readonly seed: number;
}

/** What `adapt` and `initialize` get beside the linears: the device, and what was declared as `frozen`. */
export interface AdapterDevice {
  readonly gpu: Gpu;
  readonly frozen: FrozenTensors;
}

/** An adapter over a model's linears. */
export interface Adapter {
  /** Trainable parameters in file order, with their first values (the head's are not among them). */
  readonly parameters: readonly ParameterSpec[];
  /**
   * Tensors that are read and not trained: uploaded once, counted by the memory plan, freed with the session. Their values
   * are among those that `save` and `mergeWeight` get, and `load` may give them, where the format has them in its files.
   */
  readonly frozen?: readonly FrozenSpec[] | undefined;
  /**
   * Sets first values that depend on the base's weights, on the GPU; called once before `adapt`, and not where a saved
   * adapter gives the values.
   */
  initialize?(
    gpu: Gpu,
    weightOf: (linear: LinearSpec) => FrozenWeight,
    parameters: ParameterSet,
    device: AdapterDevice,
  ): void;
  /** The linear with this adapter around it; the bare linear where the adapter leaves it alone. */
  adapt(spec: LinearSpec, weight: FrozenWeight, parameters: ParameterSet, device: AdapterDevice): AdaptedLinear;
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
  /** The adapter's files, head included, that hold these values by parameter name; see `adapterFiles`. */
  save(values: ReadonlyMap<string, Float32Array<ArrayBuffer>>): Promise<FilesToWrite>;
  /**
   * Values by parameter name (head included) from a folder that `save` or PEFT wrote. Frozen tensors that it leaves out have
   * the values that they were declared with.
   * @throws ModelError naming the tensor and both shapes where they differ
   */
  load(folder: Folder): Promise<Map<string, Float32Array<ArrayBuffer>>>;
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
 *     save: async (values) => adapterFiles({ config: '{"peft_type":"HEAD_ONLY"}', card: "", shapes: head, values }),
 *     load: (folder) => loadAdapterTensors(folder, head),
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

const ADAPTER: Parts<Adapter> = {
  parameters: "list",
  frozen: "list?",
  initialize: "function?",
  adapt: "function",
  mergeWeight: "function?",
  mergeBias: "function?",
  save: "function",
  load: "function",
};

/** @throws PluginError */
const completeAdapter = (name: string, made: Adapter): Adapter =>
  complete(made, ADAPTER, { kind: "adapter", name, method: "create" });
