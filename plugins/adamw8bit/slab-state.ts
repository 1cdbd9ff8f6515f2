import {
  createDynamicMap,
  type Gpu,
  type Parameter,
  type SavedStateReader,
  savedTensor,
  type SavedTensor,
  type Slab,
  type Tensor,
} from "qlora/core";
import { type AdamW8bitState, ADAMW8BIT_BLOCK_SIZE, ADAMW8BIT_QUANTIZED } from "qlora/kernels";

const blocksOf = (parameter: Parameter): number => Math.ceil(parameter.size / ADAMW8BIT_BLOCK_SIZE);

/** Code of 0 in the signed map: what lies between parameters must stay 0 whatever its block's absmax. */
const ZERO_CODE = 127;

/** The 8-bit state of one slab on the GPU, and its form in a checkpoint. */
export class SlabState {
  readonly slab: Slab;
  readonly tensors: AdamW8bitState;
  readonly #gpu: Gpu;
  /** First exact block of each parameter that keeps f32 moments. */
  readonly #exactAt = new Map<Parameter, number>();
  readonly #blocks: number;
  readonly #exactBlocks: number;

  /** @param min8bitSize parameters with fewer elements keep f32 moments */
  constructor(gpu: Gpu, slab: Slab, min8bitSize: number, applied: Tensor) {
    this.slab = slab;
    this.#gpu = gpu;
    this.#blocks = slab.size / ADAMW8BIT_BLOCK_SIZE;
    const tables = new Uint32Array(512 + this.#blocks).fill(ADAMW8BIT_QUANTIZED);
    tables.set(new Uint32Array(createDynamicMap(true).buffer), 0);
    tables.set(new Uint32Array(createDynamicMap(false).buffer), 256);
    let exact = 0;
    for (const p of slab.parameters) {
      if (p.size >= min8bitSize) continue;
      this.#exactAt.set(p, exact);
      for (let k = 0; k < blocksOf(p); k++) tables[512 + p.start / ADAMW8BIT_BLOCK_SIZE + k] = exact++;
    }
    this.#exactBlocks = Math.max(1, exact);
    const label = (what: string): string => `adamw8bit ${what} of slab ${slab.index}`;
    this.tensors = {
      codes: gpu.alloc([2, slab.size / 4], "u32", label("codes"), "optimizer"),
      absmax: gpu.alloc([2, this.#blocks], "f32", label("absmax"), "optimizer"),
      exact: gpu.alloc([2, this.#exactBlocks, ADAMW8BIT_BLOCK_SIZE], "f32", label("f32 moments"), "optimizer"),
      tables: gpu.upload(tables, [tables.length], "u32", label("tables"), "optimizer"),
      applied,
    };
    for (const tensor of [this.tensors.codes, this.tensors.absmax, this.tensors.exact]) gpu.clear(tensor);
  }

  /** Adds the slab's tensors to a saved state. */
  async save(saved: Map<string, SavedTensor>): Promise<void> {
    const { slab } = this;
    const codes = await this.#gpu.readBytes(this.tensors.codes);
    const absmax = await this.#gpu.readFloats(this.tensors.absmax);
    const exact = await this.#gpu.readFloats(this.tensors.exact);
    for (const p of slab.parameters) {
      for (const moment of [0, 1]) {
        const at = (what: string): string => `${p.name}/${what}${moment + 1}`;
        const place = this.#exactAt.get(p);
        if (place !== undefined) {
          const begin = (moment * this.#exactBlocks + place) * ADAMW8BIT_BLOCK_SIZE;
          saved.set(at("state"), savedTensor("f32", p.shape, exact.subarray(begin, begin + p.size)));
          continue;
        }
        const begin = moment * slab.size + p.start;
        const block = moment * this.#blocks + p.start / ADAMW8BIT_BLOCK_SIZE;
        saved.set(at("state"), savedTensor("u8", p.shape, codes.subarray(begin, begin + p.size)));
        saved.set(at("absmax"), savedTensor("f32", [blocksOf(p)], absmax.subarray(block, block + blocksOf(p))));
      }
    }
  }

  /**
   * Takes the slab's tensors from a saved state.
   * @returns writes them to the GPU; call it when the whole state has been checked
   * @throws ModelError naming a tensor that does not fit
   */
  load(reader: SavedStateReader): () => void {
    const { slab } = this;
    const codes = new Uint8Array(2 * slab.size).fill(ZERO_CODE, 0, slab.size);
    const absmax = new Float32Array(2 * this.#blocks);
    const exact = new Float32Array(2 * this.#exactBlocks * ADAMW8BIT_BLOCK_SIZE);
    for (const p of slab.parameters) {
      for (const moment of [0, 1]) {
        const at = (what: string): string => `${p.name}/${what}${moment + 1}`;
        const place = this.#exactAt.get(p);
        if (place !== undefined) {
          exact.set(
            reader.takeFloats(at("state"), p.shape),
            (moment * this.#exactBlocks + place) * ADAMW8BIT_BLOCK_SIZE,
          );
          continue;
        }
        codes.set(reader.take(at("state"), "u8", p.shape), moment * slab.size + p.start);
        absmax.set(
          reader.takeFloats(at("absmax"), [blocksOf(p)]),
          moment * this.#blocks + p.start / ADAMW8BIT_BLOCK_SIZE,
        );
      }
    }
    return () => {
      this.#gpu.write(this.tensors.codes, codes);
      this.#gpu.write(this.tensors.absmax, absmax);
      this.#gpu.write(this.tensors.exact, exact);
    };
  }

  /** Frees the slab's own tensors. */
  destroy(): void {
    const { codes, absmax, exact, tables } = this.tensors;
    for (const tensor of [codes, absmax, exact, tables]) this.#gpu.free(tensor);
  }
}
