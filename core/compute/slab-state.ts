import type { Gpu } from "../device/gpu.ts";
import type { Tensor } from "../device/tensor.ts";
import type { Slab } from "./parameters.ts";
import { savedTensor, type SavedStateReader, type SavedTensor } from "./saved-state.ts";

/**
 * f32 optimizer state with one element for each of a slab's, zero at first. In a checkpoint it is one tensor per
 * parameter, `<parameter>/<key>` of the parameter's shape.
 */
export class SlabState {
  /** [size] f32. */
  readonly tensor: Tensor;
  readonly #gpu: Gpu;
  readonly #slab: Slab;
  readonly #key: string;

  /** @param key name within the checkpoint, e.g. `momentum_buffer`; @param owner the optimizer, for messages and profiles */
  constructor(gpu: Gpu, slab: Slab, key: string, owner: string) {
    this.#gpu = gpu;
    this.#slab = slab;
    this.#key = key;
    this.tensor = gpu.alloc([slab.size], "f32", `${owner} ${key} of slab ${slab.index}`, "optimizer");
    gpu.clear(this.tensor);
  }

  /** Adds every parameter's part to a saved state. */
  async save(saved: Map<string, SavedTensor>): Promise<void> {
    const values = await this.#gpu.readFloats(this.tensor);
    for (const { name, shape, start, size } of this.#slab.parameters) {
      saved.set(`${name}/${this.#key}`, savedTensor("f32", shape, values.subarray(start, start + size)));
    }
  }

  /**
   * Takes every parameter's part from a saved state.
   * @returns writes them to the GPU; call it when the whole state has been checked
   * @throws ModelError naming a tensor that does not fit
   */
  load(reader: SavedStateReader): () => void {
    const values = new Float32Array(this.#slab.size);
    for (const { name, shape, start } of this.#slab.parameters) {
      values.set(reader.takeFloats(`${name}/${this.#key}`, shape), start);
    }
    return () => this.#gpu.write(this.tensor, values);
  }

  destroy(): void {
    this.#gpu.free(this.tensor);
  }
}
