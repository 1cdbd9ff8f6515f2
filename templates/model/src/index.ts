import {
  defineModel,
  defineOptions,
  invalidModelConfig,
  type Model,
  ModelConfigReader,
  ModelError,
  normalValues,
  openCheckpoint,
  option,
  type ParameterSet,
  readModelConfig,
  type Folder,
} from "qlora/core";
import { loadNetwork, type NetworkConfig, networkForward, networkLinears } from "./network.ts";

/** The head's name in the adapter's files. */
const SCORE = "base_model.model.score.weight";

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
      async outline(numLabels) {
        const { hiddenSize, vocabSize, blocks } = await readConfig();
        const linears = networkLinears(await readConfig());
        const row = (name: string, dtype: string, ...shape: number[]) => ({ name, shape, dtype });
        return {
          linears,
          head: [{ name: SCORE, shape: [numLabels, hiddenSize] }],
          baseParameters: [
            row("model.embed_tokens.weight", "BF16", vocabSize, hiddenSize),
            ...linears.map((l) => row(`${l.name}.weight`, "NF4", l.outFeatures, l.inFeatures)),
            ...Array.from({ length: blocks }, (_, i) => i).flatMap((layer) => [
              row(`model.layers.${layer}.pre_feedforward_layernorm.weight`, "F32", hiddenSize),
              row(`model.layers.${layer}.post_feedforward_layernorm.weight`, "F32", hiddenSize),
            ]),
            row("model.norm.weight", "F32", hiddenSize),
            row("score.weight", "F32", numLabels, hiddenSize),
          ],
          vocabSize,
          numLabels: undefined,
        };
      },
      async load({ gpu, numLabels, seed, onProgress }): Promise<Model> {
        const config = await readConfig();
        await using files = await openCheckpoint(folder);
        const weights = await loadNetwork(gpu, files, config, onProgress);
        let bound: { readonly adapted: Parameters<Model["bind"]>[0]; readonly parameters: ParameterSet } | undefined;
        return {
          head: [
            {
              name: SCORE,
              shape: [numLabels, config.hiddenSize],
              initial: () => normalValues(numLabels * config.hiddenSize, 0.02, seed, SCORE),
            },
          ],
          record: { layers: config.blocks },
          weight({ name }) {
            const found = weights.linears.get(name);
            if (found === undefined) throw new ModelError("LINEAR_UNKNOWN", `the model has no linear ${name}`);
            return found;
          },
          bind: (adapted, parameters) => void (bound = { adapted, parameters }),
          forward(tape, batch, forwardOptions) {
            if (bound === undefined) throw new Error("the model was not bound to its parameters");
            const score = bound.parameters.get(SCORE);
            return networkForward(tape, { config, weights, score, seed, ...bound }, batch, forwardOptions);
          },
          destroy: () => weights.free(),
        };
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
    blocks: Math.min(layers, read.size("num_hidden_layers")),
  };
  if (read.problems.length === 0) return config;
  throw invalidModelConfig(`${folder.name}/config.json`, read.problems, "unsloth/gemma-2-2b-it-bnb-4bit");
}
