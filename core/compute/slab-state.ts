import type { Gpu } from "../device/gpu.ts";
import type { Tensor } from "../device/tensor.ts";
import type { Slab } from "./parameters.ts";
import { savedTensor, SavedStateReader, type SavedTensor } from "./saved-state.ts";

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

/** What `slabStates` gives: the tensors beside each slab, and the rest of an optimizer whose only state they are. */
export interface SlabStates<K extends string> {
  readonly states: readonly { readonly slab: Slab; readonly tensors: Readonly<Record<K, Tensor>> }[];
  save(): Promise<Map<string, SavedTensor>>;
  /**
   * Takes the whole state or, where something does not fit, changes nothing.
   * @param more takes what else a state holds, and returns what writes it
   * @throws ModelError naming a tensor that does not fit
   */
  load(state: ReadonlyMap<string, SavedTensor>, more?: (reader: SavedStateReader) => () => void): void;
  destroy(): void;
}

/**
 * f32 state under some keys beside every slab, zero at first.
 * @param owner the optimizer, for messages and profiles
 * @example
 * const { states, ...kept } = slabStates({ gpu, parameters: new ParameterSet(gpu, []) }, "signum", ["mean"]);
 * console.log(states.length, Object.keys(kept)); // 0 [ "save", "load", "destroy" ]
 */
export function slabStates<const K extends string>(
  { gpu, parameters }: { readonly gpu: Gpu; readonly parameters: { readonly slabs: readonly Slab[] } },
  owner: string,
  keys: readonly K[],
): SlabStates<K> {
  const all: SlabState[] = [];
  const states = parameters.slabs.map((slab) => {
    const tensors: Partial<Record<K, Tensor>> = {};
    for (const key of keys) {
      const state = new SlabState(gpu, slab, key, owner);
      all.push(state);
      tensors[key] = state.tensor;
    }
    return { slab, tensors: tensors as Record<K, Tensor> };
  });
  return {
    states,
    async save() {
      const saved = new Map<string, SavedTensor>();
      for (const state of all) await state.save(saved);
      return saved;
    },
    load(state, more) {
      const reader = new SavedStateReader(state, owner);
      const writes = [...(more === undefined ? [] : [more(reader)]), ...all.map((each) => each.load(reader))];
      reader.finish();
      for (const write of writes) write();
    },
    destroy() {
      for (const state of all) state.destroy();
    },
  };
}
