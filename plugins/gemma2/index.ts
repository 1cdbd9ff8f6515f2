import { join } from "node:path";
import { readModelConfig } from "../../core/checkpoint.ts";
import { ModelError } from "../../core/errors.ts";
import { defineOptions, option } from "../../core/options.ts";
import { defineModel, type Model, type ModelContext } from "../../core/plugin.ts";
import { normalValues } from "../../core/random.ts";
import { freeNf4 } from "../../kernels/nf4/index.ts";
import { ropeInverseFrequencies } from "../../kernels/rope/index.ts";
import { type Gemma2Config, parseGemma2Config } from "./config.ts";
import { gemma2Blocks, gemma2Forward, type Gemma2Network } from "./forward.ts";
import { loadGemma2 } from "./load.ts";
import { gemma2Outline, SCORE } from "./outline.ts";

const options = defineOptions({
  checkpoint: option("string", { help: "folder of a Gemma-2 checkpoint quantised by bitsandbytes to NF4" }),
  attnLogitSoftcapping: option("number >= 0", {
    optional: true,
    help: "cap of the attention scores; 0 switches capping off (default: as config.json says)",
  }),
});

/**
 * Gemma-2 (2B, 9B, 27B) with a score head, from a bitsandbytes NF4 checkpoint.
 * @example gemma2({ checkpoint: "gemma-2-9b-it-bnb-4bit" })
 */
export const gemma2 = defineModel({
  name: "gemma2",
  options,
  create({ checkpoint, attnLogitSoftcapping }) {
    const readConfig = async (): Promise<Gemma2Config> => parseGemma2Config(await readModelConfig(checkpoint), join(checkpoint, "config.json"));
    return {
      checkpoint,
      outline: async (numLabels) => gemma2Outline(await readConfig(), numLabels),
      load: async (context) => {
        const config = await readConfig();
        return loadModel(context, checkpoint, config, attnLogitSoftcapping ?? config.attnLogitSoftcapping ?? 0);
      },
    };
  },
});

async function loadModel(context: ModelContext, checkpoint: string, config: Gemma2Config, softcap: number): Promise<Model> {
  const { gpu, numLabels, seed } = context;
  const weights = await loadGemma2(gpu, checkpoint, config, context.onProgress);
  const frequencies = ropeInverseFrequencies(config.headDim, config.ropeTheta);
  const inverseFrequencies = gpu.upload(frequencies, [config.headDim / 2], "f32", "inverse frequencies", "weights");
  let network: Gemma2Network | undefined;
  return {
    head: [
      {
        name: SCORE,
        shape: [numLabels, config.hiddenSize],
        initial: () => normalValues(numLabels * config.hiddenSize, config.initializerRange, seed, SCORE),
      },
    ],
    record: { attnLogitSoftcapping: softcap, slidingWindow: config.slidingWindow, queryPreAttnScalar: config.queryPreAttnScalar },
    weight(linear) {
      const found = weights.linears.get(linear.name);
      if (found === undefined) throw new ModelError("LINEAR_UNKNOWN", `Gemma-2 has no linear ${linear.name}`);
      return found;
    },
    bind(linears, parameters) {
      const score = parameters.get(SCORE);
      network = { config, softcap, seed, weights, blocks: gemma2Blocks(config, weights, linears), inverseFrequencies, score };
    },
    forward(tape, batch, forwardOptions) {
      if (network === undefined) throw new Error("the model was not bound to its parameters");
      return gemma2Forward(tape, network, batch, forwardOptions);
    },
    destroy() {
      for (const { tensor } of weights.embedding) gpu.free(tensor);
      for (const { norms } of weights.layers) for (const tensor of Object.values(norms)) gpu.free(tensor);
      for (const weight of weights.linears.values()) freeNf4(gpu, weight);
      gpu.free(weights.norm);
      gpu.free(inverseFrequencies);
    },
  };
}
