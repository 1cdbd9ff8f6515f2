import type { Gpu } from "../../core/device/gpu.ts";
import { ParameterSet } from "../../core/parameters.ts";
import type { Optimizer, OptimizerPlugin, SavedTensor } from "../../core/plugin.ts";
import type { Tensor } from "../../core/tensor.ts";

/** A parameter of the bench with its first values. */
export interface BenchParameter {
  readonly name: string;
  readonly shape: readonly number[];
  readonly initial: Float32Array<ArrayBuffer>;
}

/** An optimizer over parameters of its own, fed with gradients from the host. */
export class OptimizerBench {
  readonly parameters: ParameterSet;
  readonly optimizer: Optimizer;
  readonly #gpu: Gpu;
  readonly #control: Tensor;

  constructor(gpu: Gpu, plugin: OptimizerPlugin, parameters: readonly BenchParameter[]) {
    this.#gpu = gpu;
    this.parameters = new ParameterSet(
      gpu,
      parameters.map((parameter) => ({ ...parameter, initial: () => parameter.initial })),
    );
    this.optimizer = plugin.create({ gpu, parameters: this.parameters });
    this.#control = gpu.upload(Float32Array.of(1, 0, 0, 0), [4], "f32", "control");
  }

  /** One update; a parameter without gradients gets zeros. */
  step(
    gradients: Readonly<Record<string, Float32Array<ArrayBuffer>>>,
    {
      learningRate,
      update,
      factor = 1,
      skip = false,
    }: { learningRate: number; update: number; factor?: number; skip?: boolean },
  ): void {
    this.parameters.zeroGrad();
    for (const [name, gradient] of Object.entries(gradients)) this.#gpu.write(this.parameters.get(name).grad, gradient);
    this.#gpu.write(this.#control, Float32Array.of(factor, skip ? 1 : 0, 0, 0));
    this.optimizer.step({ learningRate, update, control: this.#control });
  }

  async value(name: string): Promise<Float32Array<ArrayBuffer>> {
    return this.#gpu.readFloats(this.parameters.get(name).value);
  }

  /** Sets a parameter's value. */
  restore(values: ReadonlyMap<string, Float32Array<ArrayBuffer>>): void {
    for (const [name, value] of values) this.#gpu.write(this.parameters.get(name).value, value);
  }

  destroy(): void {
    this.optimizer.destroy();
    for (const slab of this.parameters.slabs) {
      this.#gpu.free(slab.value);
      this.#gpu.free(slab.grad);
    }
    this.#gpu.free(this.#control);
  }
}

/** A saved tensor's elements as f32. @throws RangeError where it is missing or of another dtype */
export function savedFloats(state: ReadonlyMap<string, SavedTensor>, name: string): Float32Array<ArrayBuffer> {
  const tensor = state.get(name);
  if (tensor?.dtype !== "f32") throw new RangeError(`saved state: ${name} is ${tensor?.dtype ?? "missing"}`);
  return new Float32Array(tensor.data.buffer);
}

/** A saved tensor's codes. @throws RangeError where it is missing or of another dtype */
export function savedCodes(state: ReadonlyMap<string, SavedTensor>, name: string): Uint8Array<ArrayBuffer> {
  const tensor = state.get(name);
  if (tensor?.dtype !== "u8") throw new RangeError(`saved state: ${name} is ${tensor?.dtype ?? "missing"}`);
  return tensor.data;
}
