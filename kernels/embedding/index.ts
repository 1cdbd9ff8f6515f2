import type { Gpu } from "../../core/device/gpu.ts";
import { gridFor } from "../../core/device/kernel.ts";
import { type DType, expectTensor, matrixShape, type Tensor } from "../../core/device/tensor.ts";
import code from "./embedding.wgsl" with { type: "text" };

/** Rows `firstRow …` of an embedding table that exceeds one binding; a table in one piece is one chunk from row 0. */
export interface EmbeddingChunk {
  /** [rows,C] f32, f16 or bf16. */
  readonly tensor: Tensor;
  readonly firstRow: number;
}

type TableType = "f32" | "f16" | "bf16";

const isTableType = (dtype: DType): dtype is TableType => dtype === "f32" || dtype === "f16" || dtype === "bf16";

// Sixteen-bit tables are read as words, so no tier needs shader-f16 here.
const STORE: Readonly<Record<TableType, string>> = {
  f32: "out[i] = bitcast<f32>(word) * params.scale;",
  f16: "let pair = unpack2x16float(word) * params.scale; out[2u * i] = pair.x; out[2u * i + 1u] = pair.y;",
  bf16: "out[2u * i] = bitcast<f32>(word << 16u) * params.scale; out[2u * i + 1u] = bitcast<f32>(word & 0xffff0000u) * params.scale;",
};

/**
 * Rows of a frozen table by token id, times `scale`: ids [N] u32, table [V,C] -> out [N,C] f32. No gradient.
 * The caller has checked the ids; one that no chunk holds gives a row of zeros.
 * @param scale sqrt(hiddenSize) in f32 for Gemma; 1 for models that do not scale
 * @throws RangeError for shapes that do not fit, and for an odd C with a table of 16 bits
 */
export function embedding(gpu: Gpu, ids: Tensor, chunks: readonly EmbeddingChunk[], out: Tensor, scale: number): void {
  expectTensor(ids, [-1], "u32");
  expectTensor(out, [ids.shape[0]!, -1], "f32");
  const [tokens, columns] = matrixShape(out);
  if (chunks.length === 0) throw new RangeError("embedding: no table");
  for (const [index, { tensor, firstRow }] of chunks.entries()) {
    expectTensor(tensor, [-1, columns], "f32", "f16", "bf16");
    const dtype = tensor.dtype;
    if (!isTableType(dtype)) continue;
    if (dtype !== "f32" && columns % 2 !== 0)
      throw new RangeError(`embedding: a row of ${columns} ${dtype} is not whole words`);
    const words = dtype === "f32" ? columns : columns / 2;
    const kernel = gpu.kernel(`embedding/${dtype}`, () => ({
      code: `fn store(i: u32, word: u32) { ${STORE[dtype]} }\n${code}`,
      bindings: ["read", "read", "write"],
      uniforms: { tokens: "u32", words: "u32", rows: "u32", firstRow: "u32", first: "u32", scale: "f32" },
    }));
    const uniforms = { tokens, words, rows: tensor.shape[0]!, firstRow, first: index === 0 ? 1 : 0, scale };
    // Of the table only the rows of the batch are read.
    const work = { bytes: tokens * (4 + words * 4 + columns * 4) };
    gpu.dispatch(kernel, [ids, tensor, out], uniforms, gridFor((tokens * words) / 256), work);
  }
}
