import { ParameterSet } from "../core/compute/parameters.ts";
import type { SavedTensor } from "../core/compute/saved-state.ts";
import type { Gpu } from "../core/device/gpu.ts";
import type { Tensor } from "../core/device/tensor.ts";
import type { Optimizer, OptimizerPlugin } from "../core/plugin/optimizer.ts";

/** A parameter of the bench with its first values. */
export interface BenchParameter {
  readonly name: string;
  readonly shape: readonly number[];
  readonly initial: Float32Array<ArrayBuffer>;
}

/** One update of the bench. */
export interface BenchStep {
  readonly learningRate: number;
  /** 1 for the first. */
  readonly update: number;
  /** What unscales and clips gradients. Default 1. */
  readonly factor?: number;
  /** Marks the step as one to skip. Default false. */
  readonly skip?: boolean;
}

/**
 * An optimizer over parameters of its own, fed with gradients from the host: for trajectories recorded elsewhere.
 * @example
 * const [initial, gradient] = [new Float32Array(64 * 96).fill(1), new Float32Array(64 * 96).fill(0.5)];
 * const bench = new OptimizerBench(gpu, lion8bit(), [{ name: "w", shape: [64, 96], initial }]);
 * bench.step({ w: gradient }, { learningRate: 1e-4, update: 1 });
 * const values = await bench.value("w");
 * bench.destroy();
 */
export class OptimizerBench {
  readonly parameters: ParameterSet;
  readonly optimizer: Optimizer;
  readonly #gpu: Gpu;
  readonly #gradState: Tensor;

  /** @param slabs among which the parameters are spread, in their order; one where all fit, as on most devices */
  constructor(gpu: Gpu, plugin: OptimizerPlugin, parameters: readonly BenchParameter[], slabs = 1) {
    this.#gpu = gpu;
    const per = Math.ceil(parameters.length / slabs);
    const made = Array.from({ length: Math.ceil(parameters.length / per) }, (_, index) => {
      const own = parameters.slice(index * per, (index + 1) * per);
      const set = new ParameterSet(
        gpu,
        own.map((parameter) => ({ ...parameter, initial: () => parameter.initial })),
      );
      return set.slabs.map((slab) => ({ ...slab, index }));
    });
    this.parameters = new ParameterSet(gpu, [], made.flat());
    this.optimizer = plugin.create({ gpu, parameters: this.parameters });
    this.#gradState = gpu.upload(Float32Array.of(1, 0, 0, 0), [4], "f32", "gradState");
  }

  /** One update; a parameter without gradients gets zeros. */
  step(
    gradients: Readonly<Record<string, Float32Array<ArrayBuffer>>>,
    { learningRate, update, factor = 1, skip = false }: BenchStep,
  ): void {
    this.parameters.zeroGrad();
    for (const [name, gradient] of Object.entries(gradients)) this.#gpu.write(this.parameters.get(name).grad, gradient);
    this.#gpu.write(this.#gradState, Float32Array.of(factor, skip ? 1 : 0, 0, 0));
    this.optimizer.step({ learningRate, update, gradState: this.#gradState });
  }

  /** A parameter's value, read back. */
  async value(name: string): Promise<Float32Array<ArrayBuffer>> {
    return this.#gpu.readFloats(this.parameters.get(name).value);
  }

  /** Sets parameters' values. */
  restore(values: ReadonlyMap<string, Float32Array<ArrayBuffer>>): void {
    for (const [name, value] of values) this.#gpu.write(this.parameters.get(name).value, value);
  }

  /** Frees the optimizer, the parameters and their gradients. */
  destroy(): void {
    this.optimizer.destroy();
    this.parameters.free();
    this.#gpu.free(this.#gradState);
  }
}

function saved(state: ReadonlyMap<string, SavedTensor>, name: string, dtype: SavedTensor["dtype"]): SavedTensor {
  const tensor = state.get(name);
  if (tensor?.dtype !== dtype)
    throw new RangeError(`saved state: ${name} is ${tensor?.dtype ?? "missing"}, expected ${dtype}`);
  return tensor;
}

/** A saved tensor's elements as f32. @throws RangeError where it is missing or of another dtype */
export function savedFloats(state: ReadonlyMap<string, SavedTensor>, name: string): Float32Array<ArrayBuffer> {
  return new Float32Array(saved(state, name, "f32").data.buffer);
}

/** A saved tensor's codes. @throws RangeError where it is missing or of another dtype */
export function savedCodes(state: ReadonlyMap<string, SavedTensor>, name: string): Uint8Array<ArrayBuffer> {
  return saved(state, name, "u8").data;
}
