import { type DType, elementCount, bytesPerElement } from "../device/tensor.ts";
import { ModelError } from "../errors.ts";

/** Reads an optimizer's saved state tensor by tensor, and refuses what does not fit. */
export class SavedStateReader {
  readonly #state: ReadonlyMap<string, SavedTensor>;
  readonly #owner: string;
  readonly #taken = new Set<string>();

  /** @param owner who loads, e.g. `adamw8bit` */
  constructor(state: ReadonlyMap<string, SavedTensor>, owner: string) {
    this.#state = state;
    this.#owner = owner;
  }

  /**
   * The bytes of a tensor.
   * @throws ModelError naming the tensor where it is missing, or is of another dtype, shape or length
   */
  take(name: string, dtype: DType, shape: readonly number[]): Uint8Array<ArrayBuffer> {
    const found = this.#state.get(name);
    const expected = `${dtype} [${shape.join(",")}]`;
    if (found === undefined) {
      throw this.#error("OPTIMIZER_STATE_MISSING", `has no tensor "${name}", expected ${expected}`);
    }
    if (found.dtype !== dtype || found.shape.join() !== shape.join()) {
      const got = `${found.dtype} [${found.shape.join(",")}]`;
      throw this.#error("OPTIMIZER_STATE_MISMATCH", `tensor "${name}" is ${got}, expected ${expected}`);
    }
    const bytes = elementCount(shape) * bytesPerElement(dtype);
    if (found.data.byteLength !== bytes) {
      const problem = `tensor "${name}" has ${found.data.byteLength} bytes, expected ${bytes} for ${expected}`;
      throw this.#error("OPTIMIZER_STATE_MISMATCH", problem);
    }
    this.#taken.add(name);
    return found.data;
  }

  /** As `take`, for f32. */
  takeFloats(name: string, shape: readonly number[]): Float32Array<ArrayBuffer> {
    return new Float32Array(this.take(name, "f32", shape).slice().buffer);
  }

  /** @throws ModelError naming a tensor that was never taken: the state is of other parameters */
  finish(): void {
    const [stray] = [...this.#state.keys()].filter((name) => !this.#taken.has(name));
    if (stray !== undefined) {
      throw this.#error("OPTIMIZER_STATE_UNEXPECTED", `holds a tensor "${stray}", which nothing here uses`);
    }
  }

  #error(code: string, problem: string): ModelError {
    return new ModelError(code, `optimizer ${this.#owner}: the saved state ${problem}`, {
      hint: "Resume with the adapter, the rank and the optimizer options that the checkpoint was saved with.",
    });
  }
}

/** A tensor for `Optimizer.save` with the bytes of `data`. */
export function savedTensor(dtype: DType, shape: readonly number[], data: ArrayBufferView<ArrayBuffer>): SavedTensor {
  return { dtype, shape, data: new Uint8Array(data.buffer, data.byteOffset, data.byteLength).slice() };
}

/** A tensor of optimizer state on the host. */
export interface SavedTensor {
  readonly dtype: DType;
  readonly shape: readonly number[];
  readonly data: Uint8Array<ArrayBuffer>;
}
