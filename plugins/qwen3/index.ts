import {
  bindDecoderLinears,
  defineModel,
  defineOptions,
  type Model,
  type ModelContext,
  option,
  quantizationShape,
  type TensorSource,
} from "qlora/core";
import { decoderClassifier, decoderLoader, type DecoderPlacement, loadDecoder, scaledFrequencies } from "qlora/kernels";
import { qwen3Block } from "./block.ts";
import { parseQwen3Config, type Qwen3Config } from "./config.ts";
import { qwen3Frame, qwen3Outline } from "./outline.ts";

const options = defineOptions({
  checkpoint: option("string", {
    help: "dense Qwen3 checkpoint, in 16 bits or quantized to 4 by bitsandbytes: its folder, or its name on the Hugging Face hub",
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
 * Qwen3 (dense, 0.6B to 32B) with a score head, from a checkpoint in 16 bits or in 4 of bitsandbytes: queries and keys normed by head, no biases.
 * @example model: qwen3({ checkpoint: "unsloth/Qwen3-8B-bnb-4bit" })
 */
export const qwen3 = defineModel({
  name: "qwen3",
  modelTypes: ["qwen3"],
  options,
  create: (chosen, host) =>
    decoderLoader<Qwen3Config>(chosen, host, { parse: parseQwen3Config, outline: qwen3Outline, create: createQwen3 }),
});

async function createQwen3(
  context: ModelContext,
  checkpoint: TensorSource,
  config: Qwen3Config,
  placement: DecoderPlacement,
): Promise<Model> {
  const { gpu } = context;
  const outline = qwen3Frame(config);
  const weights = await loadDecoder(context, checkpoint, outline, placement);
  const frequencies = scaledFrequencies(config.headDim, config);
  const inverseFrequencies = gpu.upload(frequencies, [config.headDim / 2], "f32", "inverse frequencies", "weights");
  const network = { config, inverseFrequencies };
  return decoderClassifier(context, {
    outline,
    weights,
    record: {
      ropeScaling: config.ropeScaling,
      slidingWindow: Math.max(...config.windows),
    },
    bind: (linears, layer) => ({
      ...bindDecoderLinears(linears, layer),
      norms: weights.layers[layer]!,
      window: config.windows[layer]!,
    }),
    block: (tape, h, layer, pass) => qwen3Block(tape, h, layer, network, pass),
    free: () => gpu.free(inverseFrequencies),
  });
}
