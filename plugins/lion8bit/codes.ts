import { type Gpu, type Parameter, type SavedStateReader, savedTensor, type SavedTensor, type Slab } from "qlora/core";
import { BLOCK_SIZE, type LionState, signedMap } from "./kernel.ts";

/** Code of 0 in the signed map: what lies between parameters must stay 0. */
const ZERO_CODE = signedMap.indexOf(0);

const blocksOf = (parameter: Parameter): number => Math.ceil(parameter.size / BLOCK_SIZE);

/** 8-bit momentum of a slab on the GPU, and its form in a checkpoint. */
export class CodeState {
  readonly tensors: Extract<LionState, { kind: "8bit" }>;
  readonly #gpu: Gpu;
  readonly #slab: Slab;

  constructor(gpu: Gpu, slab: Slab) {
    this.#gpu = gpu;
    this.#slab = slab;
    const label = (what: string): string => `lion8bit ${what} of slab ${slab.index}`;
    this.tensors = {
      kind: "8bit",
      codes: gpu.alloc([slab.size / 4], "u32", label("codes"), "optimizer"),
      absmax: gpu.alloc([slab.size / BLOCK_SIZE], "f32", label("absmax"), "optimizer"),
      map: gpu.upload(signedMap, [256], "f32", label("map"), "optimizer"),
    };
    gpu.clear(this.tensors.codes); // any code times an absmax of 0
    gpu.clear(this.tensors.absmax);
  }

  /** Adds `<parameter>/state1` u8 and `<parameter>/absmax1` f32 to a saved state. */
  async save(saved: Map<string, SavedTensor>): Promise<void> {
    const codes = await this.#gpu.readBytes(this.tensors.codes);
    const absmax = await this.#gpu.readFloats(this.tensors.absmax);
    for (const p of this.#slab.parameters) {
      const block = p.start / BLOCK_SIZE;
      const count = blocksOf(p);
      saved.set(`${p.name}/state1`, savedTensor("u8", p.shape, codes.subarray(p.start, p.start + p.size)));
      saved.set(`${p.name}/absmax1`, savedTensor("f32", [count], absmax.subarray(block, block + count)));
    }
  }

  /** Takes the same from a saved state; the returned function writes it to the GPU. @throws ModelError */
  load(reader: SavedStateReader): () => void {
    const codes = new Uint8Array(this.#slab.size).fill(ZERO_CODE);
    const absmax = new Float32Array(this.#slab.size / BLOCK_SIZE);
    for (const p of this.#slab.parameters) {
      codes.set(reader.take(`${p.name}/state1`, "u8", p.shape), p.start);
      absmax.set(reader.takeFloats(`${p.name}/absmax1`, [blocksOf(p)]), p.start / BLOCK_SIZE);
    }
    return () => {
      this.#gpu.write(this.tensors.codes, codes);
      this.#gpu.write(this.tensors.absmax, absmax);
    };
  }

  destroy(): void {
    const { codes, absmax, map } = this.tensors;
    for (const tensor of [codes, absmax, map]) this.#gpu.free(tensor);
  }
}
