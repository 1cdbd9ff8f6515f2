import {
  defineModel,
  defineOptions,
  type Folder,
  invalidModelConfig,
  ModelConfigReader,
  openWeights,
  option,
  readModelConfig,
} from "qlora/core";
import { decoderClassifier, decoderSpec, loadDecoder } from "qlora/kernels";
import { meanPool } from "./mean-pool.ts";
import { bindLayer, block, type NetworkConfig, networkOutline } from "./network.ts";

const options = defineOptions({
  checkpoint: option("string", {
    help: "Gemma-2 checkpoint quantized by bitsandbytes to NF4: its folder, or its name on the Hugging Face hub",
  }),
  layers: option("number.integer >= 1", { default: 2, help: "feed-forward blocks to keep, from the first on" }),
});

/**
 * Token embeddings and the first feed-forward blocks of a Gemma-2 checkpoint, the mean over a sample's tokens, a score head: a
 * deep averaging network (Iyyer et al. 2015). A small start; attention and rope of qlora/kernels make it a transformer.
 * @example model: myPlugin({ checkpoint: "unsloth/gemma-2-2b-it-bnb-4bit", layers: 4 })
 */
export const myPlugin = defineModel({
  name: "my-plugin",
  options,
  create({ checkpoint, layers }, host) {
    const folder = host.openFolder(checkpoint);
    const readConfig = () => parseConfig(folder, layers);
    return {
      checkpoint,
      outline: async (numLabels) => decoderSpec(networkOutline(await readConfig()), numLabels),
      async load(context) {
        const config = await readConfig();
        const outline = networkOutline(config);
        await using files = await openWeights(context, folder, decoderSpec(outline, context.numLabels).baseParameters);
        const weights = await loadDecoder(context, files, outline, { embeddings: "device", keepDequantized: false });
        return decoderClassifier(context, {
          outline,
          weights,
          record: { layers: config.numHiddenLayers },
          bind: (linears, layer) => bindLayer(linears, layer, weights.layers[layer]!),
          block: (tape, h, layer, pass) => block(tape, h, layer, config, pass),
          pool: (tape, h, batch) => meanPool(tape, h, batch.segments, batch.lastTokens),
        });
      },
    };
  },
});

/** @throws ModelError naming every field of config.json that is wrong */
async function parseConfig(folder: Folder, layers: number): Promise<NetworkConfig> {
  const read = new ModelConfigReader(await readModelConfig(folder));
  const config = {
    hiddenSize: read.size("hidden_size"),
    intermediateSize: read.size("intermediate_size"),
    vocabSize: read.size("vocab_size"),
    rmsNormEps: read.positive("rms_norm_eps", 1e-6),
    numHiddenLayers: Math.min(layers, read.size("num_hidden_layers")),
    initializerRange: 0.02,
  };
  if (read.problems.length === 0) return config;
  throw invalidModelConfig(`${folder.name}/config.json`, read.problems, "unsloth/gemma-2-2b-it-bnb-4bit");
}
