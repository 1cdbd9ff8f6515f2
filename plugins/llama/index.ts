import {
  defineModel,
  defineOptions,
  type Model,
  type ModelContext,
  ModelError,
  normalValues,
  openWeights,
  option,
  readModelConfig,
  requireNf4,
  resolvePlacement,
  type TensorSource,
} from "qlora/core";
import { freeNf4 } from "qlora/kernels";
import { IN_NF4, type LlamaConfig, MODEL_TYPES, parseLlamaConfig } from "./config.ts";
import { llamaBlocks, llamaForward, type LlamaNetwork } from "./forward.ts";
import { loadLlama, type LoadSettings } from "./load.ts";
import { llamaOutline, SCORE } from "./outline.ts";
import { scaledFrequencies } from "./rope.ts";

const options = defineOptions({
  checkpoint: option("string", {
    help: "Llama, Mistral or Qwen2 checkpoint quantized by bitsandbytes to NF4: its folder, or its name on the Hugging Face hub",
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
});

/**
 * The Llama architecture (Llama, Mistral, Qwen2 and 2.5) with a score head, from a bitsandbytes NF4 checkpoint: plain
 * RMSNorm, SiLU gate, biases and sliding windows where the model has them, RoPE with Llama 3's or linear scaling.
 * @example model: llama({ checkpoint: "unsloth/Meta-Llama-3.1-8B-bnb-4bit" })
 */
export const llama = defineModel({
  name: "llama",
  modelTypes: MODEL_TYPES,
  options,
  create({ checkpoint, embeddings, keepDequantized }, host) {
    const folder = host.openFolder(checkpoint);
    const readConfig = async (): Promise<LlamaConfig> => {
      const path = `${folder.name}/config.json`;
      const config = parseLlamaConfig(await readModelConfig(folder), path);
      const linears = llamaOutline(config, 1).linears.map(({ name }) => name);
      requireNf4(config, linears, { path, example: IN_NF4[config.modelType] });
      return config;
    };
    const placement = { embeddings, keepDequantized };
    return {
      checkpoint,
      placement,
      outline: async (numLabels) => llamaOutline(await readConfig(), numLabels),
      load: async (context) => {
        const config = await readConfig();
        const { baseParameters } = llamaOutline(config, context.numLabels);
        await using files = await openWeights(context, folder, baseParameters);
        return await createLlama(context, files, config, resolvePlacement(placement, context.placement));
      },
    };
  },
});

async function createLlama(
  { gpu, numLabels, seed, onProgress }: ModelContext,
  checkpoint: TensorSource,
  config: LlamaConfig,
  settings: LoadSettings,
): Promise<Model> {
  const weights = await loadLlama(gpu, checkpoint, config, settings, onProgress);
  const frequencies = scaledFrequencies(config.headDim, config.ropeTheta, config.ropeScaling);
  const inverseFrequencies = gpu.upload(frequencies, [config.headDim / 2], "f32", "inverse frequencies", "weights");
  let network: LlamaNetwork | undefined;
  return {
    head: [
      {
        name: SCORE,
        shape: [numLabels, config.hiddenSize],
        initial: () => normalValues(numLabels * config.hiddenSize, config.initializerRange, seed, SCORE),
      },
    ],
    record: {
      modelType: config.modelType,
      ropeScaling: config.ropeScaling,
      slidingWindow: Math.max(...config.windows),
    },
    weight({ name }) {
      const found = weights.linears.get(name);
      if (found === undefined) throw new ModelError("LINEAR_UNKNOWN", `${config.modelType} has no linear ${name}`);
      return found;
    },
    bind(linears, parameters) {
      const blocks = llamaBlocks(config, weights, linears);
      network = { config, seed, weights, blocks, inverseFrequencies, score: parameters.get(SCORE) };
    },
    forward(tape, batch, forwardOptions) {
      if (network === undefined) throw new Error("the model was not bound to its parameters");
      return llamaForward(tape, network, batch, forwardOptions);
    },
    destroy() {
      weights.embedding.free();
      for (const norms of weights.layers) for (const tensor of Object.values(norms)) gpu.free(tensor);
      for (const weight of weights.linears.values()) freeNf4(gpu, weight);
      gpu.free(weights.norm);
      gpu.free(inverseFrequencies);
    },
  };
}
