import { bindDecoderLinears, type Model, type ModelContext, type TensorSource } from "qlora/core";
import { decoderClassifier, type DecoderPlacement, loadDecoder, ropeInverseFrequencies } from "qlora/kernels";
import { gemma2Block } from "./block.ts";
import type { Gemma2Config } from "./config.ts";
import { gemma2Frame } from "./outline.ts";

/** What the options settle beside config.json. */
export interface Gemma2Settings extends DecoderPlacement {
  /** Cap of the attention scores; 0 switches capping off. */
  readonly softcap: number;
}

/**
 * Loads the weights and makes the model.
 * @throws ModelError, DeviceError
 */
export async function createGemma2(
  context: ModelContext,
  checkpoint: TensorSource,
  config: Gemma2Config,
  { softcap, ...placement }: Gemma2Settings,
): Promise<Model> {
  const { gpu } = context;
  const outline = gemma2Frame(config);
  const weights = await loadDecoder(context, checkpoint, outline, placement);
  const frequencies = ropeInverseFrequencies(config.headDim, config.ropeTheta);
  const inverseFrequencies = gpu.upload(frequencies, [config.headDim / 2], "f32", "inverse frequencies", "weights");
  const network = { config, softcap, inverseFrequencies };
  return decoderClassifier(context, {
    outline,
    weights,
    record: {
      attnLogitSoftcapping: softcap,
      slidingWindow: config.slidingWindow,
      queryPreAttnScalar: config.queryPreAttnScalar,
    },
    bind: (linears, layer) => ({
      ...bindDecoderLinears(linears, layer),
      norms: weights.layers[layer]!,
      window: config.layerTypes[layer] === "sliding_attention" ? config.slidingWindow : 0,
    }),
    block: (tape, h, layer, pass) => gemma2Block(tape, h, layer, network, pass),
    free: () => gpu.free(inverseFrequencies),
  });
}
