import { type Model, type ModelContext, ModelError, normalValues, type TensorSource } from "qlora/core";
import { freeNf4, ropeInverseFrequencies } from "qlora/kernels";
import type { Gemma2Config } from "./config.ts";
import { gemma2Blocks, gemma2Forward, type Gemma2Network } from "./forward.ts";
import { loadGemma2, type LoadSettings } from "./load.ts";
import { SCORE } from "./outline.ts";

/** What the options settle beside config.json. */
export interface Gemma2Settings extends LoadSettings {
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
  settings: Gemma2Settings,
): Promise<Model> {
  const { gpu, numLabels, seed } = context;
  const { softcap } = settings;
  const weights = await loadGemma2(gpu, checkpoint, config, settings, context.onProgress);
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
    record: {
      attnLogitSoftcapping: softcap,
      slidingWindow: config.slidingWindow,
      queryPreAttnScalar: config.queryPreAttnScalar,
    },
    weight(linear) {
      const found = weights.linears.get(linear.name);
      if (found === undefined) throw new ModelError("LINEAR_UNKNOWN", `Gemma-2 has no linear ${linear.name}`);
      return found;
    },
    bind(linears, parameters) {
      const score = parameters.get(SCORE);
      network = {
        config,
        softcap,
        seed,
        weights,
        blocks: gemma2Blocks(config, weights, linears),
        inverseFrequencies,
        score,
      };
    },
    forward(tape, batch, forwardOptions) {
      if (network === undefined) throw new Error("the model was not bound to its parameters");
      return gemma2Forward(tape, network, batch, forwardOptions);
    },
    destroy() {
      weights.embedding.free();
      for (const { norms } of weights.layers) for (const tensor of Object.values(norms)) gpu.free(tensor);
      for (const weight of weights.linears.values()) freeNf4(gpu, weight);
      gpu.free(weights.norm);
      gpu.free(inverseFrequencies);
    },
  };
}
