import {
  bindDecoderLinears,
  defineModel,
  defineOptions,
  type Model,
  type ModelContext,
  option,
  quantizationShape,
  type RopeConfig,
  type Tensor,
  type TensorSource,
} from "qlora/core";
import { decoderClassifier, decoderLoader, type DecoderPlacement, loadDecoder, scaledFrequencies } from "qlora/kernels";
import { gemma3Block } from "./block.ts";
import { type Gemma3Config, MODEL_TYPES, parseGemma3Config } from "./config.ts";
import { gemma3Frame, gemma3Outline } from "./outline.ts";

const options = defineOptions({
  checkpoint: option("string", {
    help: "Gemma-3 checkpoint, in 16 bits or quantized to 4 by bitsandbytes: its folder, or its name on the Hugging Face hub",
  }),
  revision: option("string", { optional: true, help: "branch, tag or commit of a hub checkpoint (default: main)" }),
  embeddings: option("'device' | 'host'", {
    optional: true,
    help: "where the token table lies (default: as training.memory chooses); on the host it costs no GPU memory",
  }),
  keepDequantized: option("boolean", {
    optional: true,
    help: "keep f16 copies of the linears for forward passes (default: as training.memory chooses): faster in tier matrix, more memory",
  }),
  ...quantizationShape,
});

/**
 * Gemma-3 (270M to 27B) with a score head, from a checkpoint, in 16 bits or in 4 of bitsandbytes, of the text model or of one that also sees images: five
 * layers of six see a window, queries and keys are normed by head.
 * @example model: gemma3({ checkpoint: "unsloth/gemma-3-4b-it-bnb-4bit" })
 */
export const gemma3 = defineModel({
  name: "gemma3",
  modelTypes: MODEL_TYPES,
  options,
  create: (chosen, host) =>
    decoderLoader<Gemma3Config>(chosen, host, {
      parse: parseGemma3Config,
      outline: gemma3Outline,
      create: createGemma3,
    }),
});

async function createGemma3(
  context: ModelContext,
  checkpoint: TensorSource,
  config: Gemma3Config,
  placement: DecoderPlacement,
): Promise<Model> {
  const { gpu } = context;
  const outline = gemma3Frame(config);
  const weights = await loadDecoder(context, checkpoint, outline, placement);
  const upload = (rope: RopeConfig, label: string): Tensor =>
    gpu.upload(scaledFrequencies(config.headDim, rope), [config.headDim / 2], "f32", label, "weights");
  const global = upload(config.rope, "inverse frequencies");
  const local = upload(config.localRope, "inverse frequencies of sliding layers");
  return decoderClassifier(context, {
    outline,
    weights,
    record: {
      ropeScaling: config.rope.ropeScaling,
      slidingWindow: Math.max(...config.windows),
      queryPreAttnScalar: config.queryPreAttnScalar,
    },
    bind: (linears, layer) => ({
      ...bindDecoderLinears(linears, layer, config.prefix),
      norms: weights.layers[layer]!,
      window: config.windows[layer]!,
      inverseFrequencies: config.windows[layer] === 0 ? global : local,
    }),
    block: (tape, h, layer, pass) => gemma3Block(tape, h, layer, config, pass),
    free: () => [global, local].forEach((tensor) => gpu.free(tensor)),
  });
}
