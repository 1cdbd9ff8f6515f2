/** Streams a checkpoint to the GPU: the host holds a piece of a tensor at a time. */
import {
  decoderLinears,
  type Gpu,
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
import type { Gemma2Config } from "./config.ts";
import { LAYER_NORMS } from "./outline.ts";

/** Frozen weights of one layer. */
export interface LayerWeights {
  /** By name in `LAYER_NORMS`: [C] f32. */
  readonly norms: Readonly<Record<(typeof LAYER_NORMS)[number], Tensor>>;
}

/** All frozen weights on the GPU. */
export interface Gemma2Weights {
  readonly embedding: TokenTable;
  readonly layers: readonly LayerWeights[];
  /** [C] f32. */
  readonly norm: Tensor;
  /** By the linear's name. */
  readonly linears: ReadonlyMap<string, Nf4Weight>;
}

/** Where weights lie, and in which forms. */
export interface LoadSettings {
  readonly embeddings: EmbeddingPlace;
  /** Keep an f16 copy of every linear for forward passes (tier `matrix`; 9B: 18 GB more). */
  readonly keepDequantized: boolean;
}

/**
 * Loads every frozen tensor of a Gemma-2 checkpoint.
 * @throws ModelError naming the tensor that is missing, misshapen or damaged
 */
export async function loadGemma2(
  gpu: Gpu,
  checkpoint: TensorSource,
  config: Gemma2Config,
  { embeddings, keepDequantized }: LoadSettings,
  onProgress?: LoadProgress,
): Promise<Gemma2Weights> {
  using stream = new TensorStream(gpu, checkpoint, onProgress);
  const { vocabSize, hiddenSize } = config;
  const norm = async (name: string): Promise<Tensor> => {
    const values = await readFloats(checkpoint, name, [hiddenSize]);
    const tensor = gpu.upload(values, [hiddenSize], "f32", name, "weights");
    await stream.account(values.byteLength);
    return tensor;
  };
  const scale = Math.sqrt(hiddenSize);
  const embedding = await loadTokenTable(gpu, checkpoint, { vocabSize, hiddenSize, scale, place: embeddings, stream });
  const layers: LayerWeights[] = [];
  const linears = new Map<string, Nf4Weight>();
  for (let layer = 0; layer < config.numHiddenLayers; layer++) {
    for (const spec of decoderLinears(config, layer)) {
      // bitsandbytes' 4-bit products dequantize straight to the activation's type, not through quant_state.dtype.
      const weight: Nf4Weight = { ...(await loadNf4(gpu, stream, spec)), rounding: "f32" };
      linears.set(spec.name, keepDequantized && gemmSupports(gpu, weight) ? keepTransposed(gpu, weight) : weight);
    }
    const norms: Partial<Record<(typeof LAYER_NORMS)[number], Tensor>> = {};
    for (const name of LAYER_NORMS) norms[name] = await norm(`model.layers.${layer}.${name}.weight`);
    layers.push({ norms: norms as LayerWeights["norms"] });
  }
  const last = await norm("model.norm.weight");
  await stream.finish();
  return { embedding, layers, norm: last, linears };
}
