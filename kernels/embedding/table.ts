/** The token table, on the GPU or on the host: a host gathers the rows of a batch and uploads only those. */
import type { Batch } from "../../core/compute/batch.ts";
import type { Gpu } from "../../core/device/gpu.ts";
import type { DType, Tensor } from "../../core/device/tensor.ts";
import { expectFloats } from "../../core/formats/checkpoint.ts";
import type { TensorSource } from "../../core/formats/safetensors.ts";
import { TensorStream } from "../../core/formats/tensor-stream.ts";
import { embedding, type EmbeddingChunk } from "./index.ts";

/** Where the table lies; 1.8 GB for Gemma-2 9B. */
export type EmbeddingPlace = "device" | "host";

/** The table, loaded. */
export interface TokenTable {
  /** Writes the batch's rows, scaled, to out [N,C] f32. */
  lookup(batch: Batch, out: Tensor): void;
  free(): void;
}

/** Which tensor it is. */
export interface TokenTableOptions {
  /** Default `model.embed_tokens.weight`. */
  readonly name?: string;
  readonly vocabSize: number;
  readonly hiddenSize: number;
  /** Factor of every row: sqrt(hiddenSize) for Gemma, 1 for models that do not scale. */
  readonly scale: number;
  readonly place: EmbeddingPlace;
  /** What moves the bytes, where it also counts those of other tensors. */
  readonly stream?: TensorStream;
}

const STORAGE: Readonly<Record<"BF16" | "F16" | "F32", DType>> = { BF16: "bf16", F16: "f16", F32: "f32" };
/**
 * Streams the table to its place, as the file stores it.
 * @throws ModelError naming the tensor where it is missing or misshapen
 */
export async function loadTokenTable(
  gpu: Gpu,
  checkpoint: TensorSource,
  options: TokenTableOptions,
): Promise<TokenTable> {
  const { name = "model.embed_tokens.weight", vocabSize, hiddenSize, scale, place } = options;
  using own = options.stream === undefined ? new TensorStream(gpu, checkpoint) : undefined;
  const stream = options.stream ?? own!;
  const info = expectFloats(checkpoint, name, [vocabSize, hiddenSize]);
  const dtype = STORAGE[info.dtype];
  const rowBytes = (info.end - info.begin) / vocabSize;
  if (place === "device") {
    const chunks = await uploadTable(gpu, stream, { name, vocabSize, hiddenSize, dtype, rowBytes });
    return {
      lookup: (batch, out) => embedding(gpu, batch.ids, chunks, out, scale),
      free: () => chunks.forEach(({ tensor }) => gpu.free(tensor)),
    };
  }
  const table = new Uint8Array(gpu.isMeta ? 0 : info.end - info.begin);
  await stream.fill(name, table);
  return {
    lookup: (batch, out) => {
      const tensor = gpu.alloc([batch.tokens, hiddenSize], dtype, "embedding rows", "data");
      const ids = gpu.alloc([batch.tokens], "u32", "embedding order", "data");
      if (!gpu.isMeta) {
        const rows = new Uint8Array(batch.tokens * rowBytes);
        batch.host.inputIds.forEach((id, i) =>
          rows.set(table.subarray(id * rowBytes, (id + 1) * rowBytes), i * rowBytes),
        );
        gpu.write(tensor, rows);
        gpu.write(
          ids,
          Uint32Array.from({ length: batch.tokens }, (_, i) => i),
        );
      }
      embedding(gpu, ids, [{ firstRow: 0, tensor }], out, scale);
      gpu.free(tensor);
      gpu.free(ids);
    },
    free: () => {},
  };
}

interface TableShape {
  readonly name: string;
  readonly vocabSize: number;
  readonly hiddenSize: number;
  readonly dtype: DType;
  readonly rowBytes: number;
}

/** The table on the GPU, cut by rows into chunks that one binding holds. */
async function uploadTable(
  gpu: Gpu,
  stream: TensorStream,
  { name, vocabSize, hiddenSize, dtype, rowBytes }: TableShape,
): Promise<EmbeddingChunk[]> {
  // The allocator may round a buffer up by an eighth.
  const perChunk = Math.min(vocabSize, Math.floor(gpu.device.limits.maxStorageBufferBindingSize / 1.125 / rowBytes));
  const chunks: EmbeddingChunk[] = [];
  for (let firstRow = 0; firstRow < vocabSize; firstRow += perChunk) {
    const rows = Math.min(perChunk, vocabSize - firstRow);
    const tensor = gpu.alloc([rows, hiddenSize], dtype, name, "weights");
    await stream.copy(name, tensor, firstRow * rowBytes, rows * rowBytes);
    chunks.push({ firstRow, tensor });
  }
  return chunks;
}
