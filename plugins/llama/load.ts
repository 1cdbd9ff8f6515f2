/** Streams a checkpoint to the GPU: the host holds a piece of a tensor at a time. */
import {
  decoderLinears,
  type Gpu,
  type LinearSpec,
  type LoadProgress,
  type Nf4Weight,
  readFloats,
  type Tensor,
  type TensorSource,
  TensorStream,
} from "qlora/core";
import {
  type EmbeddingPlace,
  gemmSupports,
  keepTransposed,
  loadNf4,
  loadTokenTable,
  type TokenTable,
} from "qlora/kernels";
import type { LlamaConfig } from "./config.ts";
import { hasBias, LAYER_NORMS } from "./outline.ts";

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
  readonly keepDequantized: boolean;
}

/**
 * Loads every frozen tensor but the language model's head, which a classifier has no use for.
 * @throws ModelError naming the tensor that is missing, misshapen or damaged
 */
export async function loadLlama(
  gpu: Gpu,
  checkpoint: TensorSource,
  config: LlamaConfig,
  { embeddings, keepDequantized }: LoadSettings,
  onProgress?: LoadProgress,
): Promise<LlamaWeights> {
  using stream = new TensorStream(gpu, checkpoint, onProgress, (name) => !name.startsWith("lm_head."));
  const vector = async (name: string, size: number): Promise<Tensor> => {
    const values = await readFloats(checkpoint, name, [size]);
    const tensor = gpu.upload(values, [size], "f32", name, "weights");
    await stream.account(values.byteLength);
    return tensor;
  };
  const linear = async (spec: LinearSpec): Promise<Nf4Weight> => {
    // bitsandbytes' 4-bit products dequantize straight to the activation's type, not through quant_state.dtype.
    const weight: Nf4Weight = { ...(await loadNf4(gpu, stream, spec)), rounding: "f32" };
    const kept = keepDequantized && gemmSupports(gpu, weight) ? keepTransposed(gpu, weight) : weight;
    return hasBias(config, spec) ? { ...kept, bias: await vector(`${spec.name}.bias`, spec.outFeatures) } : kept;
  };

  const { vocabSize, hiddenSize, numHiddenLayers } = config;
  const table = { vocabSize, hiddenSize, scale: 1, place: embeddings, stream };
  const embedding = await loadTokenTable(gpu, checkpoint, table);
  const layers: LayerNorms[] = [];
  const linears = new Map<string, Nf4Weight>();
  for (let layer = 0; layer < numHiddenLayers; layer++) {
    for (const spec of decoderLinears(config, layer)) linears.set(spec.name, await linear(spec));
    const norms: Partial<Record<(typeof LAYER_NORMS)[number], Tensor>> = {};
    for (const name of LAYER_NORMS) norms[name] = await vector(`model.layers.${layer}.${name}.weight`, hiddenSize);
    layers.push(norms as LayerNorms);
  }
  const norm = await vector("model.norm.weight", hiddenSize);
  await stream.finish();
  return { embedding, layers, norm, linears };
}
