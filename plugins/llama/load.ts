/** Streams a checkpoint to the GPU, tensor by tensor: the host never holds more than one of them. */
import { readFloats, readNf4, type TensorSource } from "qlora";
import {
  type EmbeddingPlace,
  gemmSupports,
  type Gpu,
  keepTransposed,
  type LinearSpec,
  loadTokenTable,
  type Nf4Weight,
  type Tensor,
  type TokenTable,
  uploadNf4,
} from "qlora/kernels";
import type { LlamaConfig } from "./config.ts";
import { hasBias, LAYER_NORMS, layerLinears } from "./outline.ts";

/** Norms of one layer by name, [C] f32. */
export type LayerNorms = Readonly<Record<(typeof LAYER_NORMS)[number], Tensor>>;

/** All frozen weights on the GPU. */
export interface LlamaWeights {
  readonly embedding: TokenTable;
  readonly layers: readonly LayerNorms[];
  /** [C] f32. */
  readonly norm: Tensor;
  /** By the linear's name. */
  readonly linears: ReadonlyMap<string, Nf4Weight>;
}

/** Where weights lie, and in which forms. */
export interface LoadSettings {
  readonly embeddings: EmbeddingPlace;
  /** Keep an f16 copy of every linear for forward passes (tier `matrix`). */
  readonly keepDequantised: boolean;
}

/** Uploads are flushed whenever so many bytes are on their way, so that staging memory stays bounded. */
const FLUSH_BYTES = 256 * 2 ** 20;

/**
 * Loads every frozen tensor but the language model's head, which a classifier has no use for.
 * @throws ModelError naming the tensor that is missing, misshapen or damaged
 */
export async function loadLlama(
  gpu: Gpu,
  checkpoint: TensorSource,
  config: LlamaConfig,
  { embeddings, keepDequantised }: LoadSettings,
  onProgress?: (done: number, total: number) => void,
): Promise<LlamaWeights> {
  const used = [...checkpoint.tensors].filter(([name]) => !name.startsWith("lm_head."));
  const total = used.reduce((sum, [, info]) => sum + info.end - info.begin, 0);
  let done = 0;
  let unflushed = 0;
  const account = async (bytes: number): Promise<void> => {
    done += bytes;
    unflushed += bytes;
    if (unflushed >= FLUSH_BYTES) {
      await gpu.idle();
      unflushed = 0;
    }
    onProgress?.(Math.min(done, total), total);
  };
  const vector = async (name: string, size: number): Promise<Tensor> => {
    const values = await readFloats(checkpoint, name, [size]);
    await account(values.byteLength);
    return gpu.upload(values, [size], "f32", name, "weights");
  };
  const linear = async (spec: LinearSpec): Promise<Nf4Weight> => {
    const raw = await readNf4(checkpoint, `${spec.name}.weight`, [spec.outFeatures, spec.inFeatures]);
    // bitsandbytes' 4-bit products dequantise straight to the activation's type, not through quant_state.dtype.
    const weight: Nf4Weight = { ...uploadNf4(gpu, raw, spec.name), rounding: "f32" };
    await account(raw.codes.byteLength + raw.absmax.byteLength);
    const kept = keepDequantised && gemmSupports(gpu, weight) ? keepTransposed(gpu, weight) : weight;
    return hasBias(config, spec) ? { ...kept, bias: await vector(`${spec.name}.bias`, spec.outFeatures) } : kept;
  };

  const { vocabSize, hiddenSize, numHiddenLayers } = config;
  const table = { vocabSize, hiddenSize, scale: 1, place: embeddings, account };
  const embedding = await loadTokenTable(gpu, checkpoint, table);
  const layers: LayerNorms[] = [];
  const linears = new Map<string, Nf4Weight>();
  for (let layer = 0; layer < numHiddenLayers; layer++) {
    for (const spec of layerLinears(config, layer)) linears.set(spec.name, await linear(spec));
    const norms: Partial<Record<(typeof LAYER_NORMS)[number], Tensor>> = {};
    for (const name of LAYER_NORMS) norms[name] = await vector(`model.layers.${layer}.${name}.weight`, hiddenSize);
    layers.push(norms as LayerNorms);
  }
  const norm = await vector("model.norm.weight", hiddenSize);
  await gpu.idle();
  onProgress?.(total, total);
  return { embedding, layers, norm, linears };
}
