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
import { llamaBlock } from "./block.ts";
import { type LlamaConfig, MODEL_TYPES, parseLlamaConfig } from "./config.ts";
import { llamaFrame, llamaOutline } from "./outline.ts";

const options = defineOptions({
  checkpoint: option("string", {
    help: "Llama, Mistral or Qwen2 checkpoint, in 16 bits or quantized to 4 by bitsandbytes: its folder, or its name on the Hugging Face hub",
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
 * The Llama architecture (Llama, Mistral, Qwen2 and 2.5) with a score head, from a checkpoint in 16 bits or in 4 of bitsandbytes: plain
 * RMSNorm, SiLU gate, biases and sliding windows where the model has them, RoPE with Llama 3's or linear scaling.
 * @example model: llama({ checkpoint: "unsloth/Meta-Llama-3.1-8B-bnb-4bit" })
 */
export const llama = defineModel({
  name: "llama",
  modelTypes: MODEL_TYPES,
  options,
  create: (chosen, host) =>
    decoderLoader<LlamaConfig>(chosen, host, { parse: parseLlamaConfig, outline: llamaOutline, create: createLlama }),
});

async function createLlama(
  context: ModelContext,
  checkpoint: TensorSource,
  config: LlamaConfig,
  placement: DecoderPlacement,
): Promise<Model> {
  const { gpu } = context;
  const outline = llamaFrame(config);
  const weights = await loadDecoder(context, checkpoint, outline, placement);
  const frequencies = scaledFrequencies(config.headDim, config);
  const inverseFrequencies = gpu.upload(frequencies, [config.headDim / 2], "f32", "inverse frequencies", "weights");
  const network = { config, inverseFrequencies };
  return decoderClassifier(context, {
    outline,
    weights,
    record: {
      modelType: config.modelType,
      ropeScaling: config.ropeScaling,
      slidingWindow: Math.max(...config.windows),
    },
    bind: (linears, layer) => ({
      ...bindDecoderLinears(linears, layer),
      norms: weights.layers[layer]!,
      window: config.windows[layer]!,
    }),
    block: (tape, h, layer, pass) => llamaBlock(tape, h, layer, network, pass),
    free: () => gpu.free(inverseFrequencies),
  });
}
