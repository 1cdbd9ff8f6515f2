import type { Gpu } from "../device/gpu.ts";
import { elementCount, type Tensor } from "../device/tensor.ts";
import { UploadPace } from "../device/upload-pace.ts";
import { ModelError } from "../errors.ts";
import type { ParameterSpec } from "./parameters.ts";

/**
 * A tensor that an adapter reads and nothing trains: a projection, a mask, an index. `initial` gives its values, by a seed
 * or otherwise, where no file does; it is called once, and not for a memory plan.
 */
export type FrozenSpec = ParameterSpec;

/** What an adapter declared as `frozen`, each a tensor of its own [shape] f32 on the GPU; freed with the session. */
export class FrozenTensors {
  readonly #gpu: Gpu;
  readonly #tensors = new Map<string, Tensor>();

  private constructor(gpu: Gpu) {
    this.#gpu = gpu;
  }

  /**
   * Uploads each once, from `saved` where that has it.
   * @throws ModelError where values do not fill their shape; RangeError for a repeated name
   */
  static async load(
    gpu: Gpu,
    specs: readonly FrozenSpec[],
    saved: ReadonlyMap<string, Float32Array<ArrayBuffer>> = new Map(),
  ): Promise<FrozenTensors> {
    const frozen = new FrozenTensors(gpu);
    const pace = new UploadPace(gpu);
    try {
      for (const spec of specs) {
        const { name, shape } = spec;
        if (frozen.#tensors.has(name)) throw new RangeError(`two frozen tensors are named ${name}`);
        const tensor = gpu.alloc(shape, "f32", name, "adapter");
        frozen.#tensors.set(name, tensor);
        if (gpu.isMeta) continue;
        const values = saved.get(name) ?? spec.initial();
        if (values.length !== elementCount(shape)) {
          const what = `${values.length} values of the frozen tensor ${name}, expected [${shape.join(",")}]`;
          throw new ModelError("ADAPTER_SHAPE", what);
        }
        gpu.write(tensor, values);
        await pace.add(values.byteLength);
      }
    } catch (error) {
      frozen.free();
      throw error;
    }
    return frozen;
  }

  /** @throws RangeError for a name that was not declared */
  get(name: string): Tensor {
    const found = this.#tensors.get(name);
    if (found === undefined) throw new RangeError(`no frozen tensor ${name}`);
    return found;
  }

  /** Values of all, read back. */
  async readValues(): Promise<Map<string, Float32Array<ArrayBuffer>>> {
    const values = new Map<string, Float32Array<ArrayBuffer>>();
    for (const [name, tensor] of this.#tensors) values.set(name, await this.#gpu.readFloats(tensor));
    return values;
  }

  /** Gives the memory back; the set is dead afterwards. */
  free(): void {
    for (const tensor of this.#tensors.values()) this.#gpu.free(tensor);
    this.#tensors.clear();
  }
}
