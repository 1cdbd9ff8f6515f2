/** A model and its adapter put on an open GPU, on any host. */
import { FrozenTensors } from "../../core/compute/frozen.ts";
import type { AdaptedLinear } from "../../core/compute/linear.ts";
import { ParameterSet, type ParameterSpec } from "../../core/compute/parameters.ts";
import type { BatchShape } from "../../core/device/batch-shape.ts";
import type { Gpu } from "../../core/device/gpu.ts";
import { ModelError } from "../../core/errors.ts";
import type { Folder } from "../../core/formats/bytes.ts";
import { requireFinite } from "../../core/formats/finite.ts";
import type { Adapter, AdapterPlugin } from "../../core/plugin/adapter.ts";
import type { Model, ModelSpec, ModelPlacement, ModelLoader } from "../../core/plugin/model.ts";
import type { RunListener } from "../events.ts";

/** Kernels that compile ahead of the work: what a session asks of them. */
export interface Warmup {
  /** Compiles what the first batches need. @throws DeviceError */
  compileFirst(onProgress: (done: number, total: number) => void): Promise<void>;
  /** Continues in the background with the batches after the first ones. */
  continue(): void;
  /** Before a batch: compiles what it needs and waits for it. @throws DeviceError */
  prepare(batch: BatchShape): Promise<void>;
  /** Compiles nothing more. */
  stop(): void;
}

/** Everything that lives on the GPU between steps, but for the optimizer. */
export interface Session {
  readonly gpu: Gpu;
  readonly source: ModelLoader;
  readonly outline: ModelSpec;
  readonly model: Model;
  readonly adapter: Adapter;
  readonly parameters: ParameterSet;
  /** What the adapter reads and nothing trains. */
  readonly frozen: FrozenTensors;
  readonly numLabels: number;
  /** Before a batch: waits for its kernels where they compile ahead of it. @throws DeviceError where one does not */
  readonly prepare?: ((batch: BatchShape) => Promise<void>) | undefined;
  /** Frees the GPU; a second time does nothing. */
  [Symbol.dispose](): void;
}

/** What is put on the GPU. */
export interface LoadOptions {
  readonly source: ModelLoader;
  /** What the adapter's files call the base model; its folder where it is undefined. */
  readonly baseModel?: string | undefined;
  readonly adapter: AdapterPlugin;
  /** What the memory plan chose for the model. */
  readonly placement?: ModelPlacement | undefined;
  /** Kernels to compile while the weights load and later; others compile when they are first used. */
  readonly kernels?: Warmup | undefined;
  readonly numLabels: number;
  readonly seed: number;
  /** An adapter whose values replace the fresh ones. */
  readonly initAdapter?: Folder | undefined;
  /** First values of the head by name, where fresh ones are not wanted; asked without `initAdapter`. */
  readonly firstHead?: ((outline: ModelSpec) => Promise<ReadonlyMap<string, Float32Array<ArrayBuffer>>>) | undefined;
  /** Load NaN and infinite values of the base and of the adapter as they are. */
  readonly allowNonFinite?: boolean | undefined;
  readonly onEvent?: RunListener | undefined;
}

/**
 * Loads the model and puts the adapter on it; where that fails, what was loaded is freed as far as it is known.
 * @param close called when the session is freed
 * @throws DeviceError, ModelError
 */
export async function loadSession(gpu: Gpu, options: LoadOptions, close: () => void): Promise<Session> {
  const { source, numLabels, seed, onEvent, placement, allowNonFinite } = options;
  const outline = await source.outline(numLabels);
  const adapter = await options.adapter.create({
    linears: outline.linears,
    head: outline.head,
    baseModel: options.baseModel ?? source.checkpoint,
    seed,
  });
  const { initAdapter } = options;
  const saved = initAdapter === undefined ? undefined : await adapter.load(initAdapter);
  if (saved !== undefined && allowNonFinite !== true) requireFinite(initAdapter!.name, saved);
  if (allowNonFinite === true && !gpu.isMeta) onEvent?.({ type: "warning", message: ALLOWED });
  const onProgress = (done: number, total: number): void =>
    onEvent?.({ type: "progress", what: "loading the model", done, total });
  let loaded = false;
  const { kernels } = options;
  const compiled = kernels?.compileFirst((done, total) => {
    if (loaded) onEvent?.({ type: "progress", what: "compiling kernels", done, total });
  });
  compiled?.catch(() => {}); // awaited below, where loading has not failed before it
  const model = await source.load({ gpu, numLabels, seed, placement, allowNonFinite, onProgress });
  let parameters: ParameterSet | undefined;
  let frozen: FrozenTensors | undefined;
  const free = (): void => {
    model.destroy();
    parameters?.free();
    frozen?.free();
  };
  try {
    const trained = saved === undefined && !gpu.isMeta ? await options.firstHead?.(outline) : undefined;
    const specs = [...adapter.parameters, ...model.head].map((spec) =>
      saved === undefined ? withValue(spec, trained?.get(spec.name)) : startFrom(spec, saved),
    );
    parameters = await ParameterSet.load(gpu, specs);
    frozen = await FrozenTensors.load(gpu, adapter.frozen ?? [], saved);
    const device = { gpu, frozen };
    if (saved === undefined) adapter.initialize?.(gpu, (linear) => model.weight(linear), parameters, device);
    const linears = new Map<string, AdaptedLinear>();
    for (const spec of outline.linears)
      linears.set(spec.name, adapter.adapt(spec, model.weight(spec), parameters, device));
    model.bind(linears, parameters);
    loaded = true;
    await compiled;
    kernels?.continue();
    let open = true;
    const dispose = (): void => {
      if (!open) return;
      open = false;
      kernels?.stop();
      free();
      close();
    };
    const prepare = kernels && ((batch: BatchShape) => kernels.prepare(batch));
    const parts = { gpu, source, outline, model, adapter, parameters, frozen, numLabels, prepare };
    return { ...parts, [Symbol.dispose]: dispose };
  } catch (error) {
    free();
    throw error;
  }
}

const ALLOWED = "NaN and infinite values of the base and of the adapter are not looked for (allowNonFinite)";

const withValue = (spec: ParameterSpec, value: Float32Array<ArrayBuffer> | undefined): ParameterSpec =>
  value === undefined ? spec : { ...spec, initial: () => value };

function startFrom(spec: ParameterSpec, saved: ReadonlyMap<string, Float32Array<ArrayBuffer>>): ParameterSpec {
  const value = saved.get(spec.name);
  if (value === undefined) {
    throw new ModelError("ADAPTER_TENSOR_MISSING", `the adapter holds no tensor "${spec.name}"`, {
      hint: "Its target modules or layers differ from the configured ones, or it was saved without its head.",
    });
  }
  return withValue(spec, value);
}
