/** Streams a checkpoint to the GPU, tensor by tensor: the host never holds more than one of them. */
import { readFloats } from "../../core/checkpoint.ts";
import type { Gpu } from "../../core/device/index.ts";
import type { Nf4Weight } from "../../core/linear.ts";
import { readNf4 } from "../../core/nf4-checkpoint.ts";
import type { TensorSource } from "../../core/safetensors.ts";
import type { Tensor } from "../../core/tensor.ts";
import { type EmbeddingPlace, loadTokenTable, type TokenTable } from "../../kernels/embedding/table.ts";
import { gemmSupports, keepTransposed } from "../../kernels/gemm/index.ts";
import { uploadNf4 } from "../../kernels/nf4/index.ts";
import type { Gemma2Config } from "./config.ts";
import { LAYER_NORMS, layerLinears } from "./outline.ts";

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
  readonly keepDequantised: boolean;
}

/** Uploads are flushed whenever so many bytes are on their way, so that staging memory stays bounded. */
const FLUSH_BYTES = 256 * 2 ** 20;

/**
 * Loads every frozen tensor of a Gemma-2 checkpoint.
 * @throws ModelError naming the tensor that is missing, misshapen or damaged
 */
export async function loadGemma2(
  gpu: Gpu,
  checkpoint: TensorSource,
  config: Gemma2Config,
  { embeddings, keepDequantised }: LoadSettings,
  onProgress?: (done: number, total: number) => void,
): Promise<Gemma2Weights> {
  const total = [...checkpoint.tensors.values()].reduce((sum, info) => sum + info.end - info.begin, 0);
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
  const norm = async (name: string): Promise<Tensor> => {
    const values = await readFloats(checkpoint, name, [config.hiddenSize]);
    const tensor = gpu.upload(values, [config.hiddenSize], "f32", name, "weights");
    await account(values.byteLength);
    return tensor;
  };

  const { vocabSize, hiddenSize } = config;
  const scale = Math.sqrt(hiddenSize);
  const embedding = await loadTokenTable(gpu, checkpoint, { vocabSize, hiddenSize, scale, place: embeddings, account });
  const layers: LayerWeights[] = [];
  const linears = new Map<string, Nf4Weight>();
  for (let layer = 0; layer < config.numHiddenLayers; layer++) {
    for (const spec of layerLinears(config, layer)) {
      const raw = await readNf4(checkpoint, `${spec.name}.weight`, [spec.outFeatures, spec.inFeatures]);
      // bitsandbytes' 4-bit products dequantise straight to the activation's type, not through quant_state.dtype.
      const weight: Nf4Weight = { ...uploadNf4(gpu, raw, spec.name), rounding: "f32" };
      linears.set(spec.name, keepDequantised && gemmSupports(gpu, weight) ? keepTransposed(gpu, weight) : weight);
      await account(raw.codes.byteLength + raw.absmax.byteLength);
    }
    const norms: Partial<Record<(typeof LAYER_NORMS)[number], Tensor>> = {};
    for (const name of LAYER_NORMS) norms[name] = await norm(`model.layers.${layer}.${name}.weight`);
    layers.push({ norms: norms as LayerWeights["norms"] });
  }
  const last = await norm("model.norm.weight");
  await gpu.idle();
  onProgress?.(total, total);
  return { embedding, layers, norm: last, linears };
}
