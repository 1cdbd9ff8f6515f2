import {
  type AdaptedLinear,
  defineModel,
  defineOptions,
  isTrainable,
  type Model,
  type ModelContext,
  option,
  quantizationShape,
  type TensorSource,
} from "qlora/core";
import { decoderClassifier, decoderLoader, type DecoderPlacement, loadDecoder } from "qlora/kernels";
import { phi3Block } from "./block.ts";
import { parsePhi3Config, type Phi3Config } from "./config.ts";
import { phi3Frequencies } from "./rope.ts";
import { phi3Frame, phi3Outline } from "./outline.ts";

const options = defineOptions({
  checkpoint: option("string", {
    help: "Phi-3, Phi-3.5 or Phi-4 checkpoint, in 16 bits or quantized to 4 by bitsandbytes: its folder, or its name on the Hugging Face hub",
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
 * Phi-3, Phi-3.5 and Phi-4 (mini, medium, 14B) with a score head, from a checkpoint in 16 bits or in 4 of bitsandbytes: one linear for queries, keys and
 * values, one for gate and up, `longrope` scaling for texts of up to its short range, partial rotary embedding.
 * @example model: phi3({ checkpoint: "unsloth/Phi-3.5-mini-instruct-bnb-4bit" })
 */
export const phi3 = defineModel({
  name: "phi3",
  modelTypes: ["phi3"],
  options,
  create: (chosen, host) =>
    decoderLoader<Phi3Config>(chosen, host, { parse: parsePhi3Config, outline: phi3Outline, create: createPhi3 }),
});

async function createPhi3(
  context: ModelContext,
  checkpoint: TensorSource,
  config: Phi3Config,
  placement: DecoderPlacement,
): Promise<Model> {
  const { gpu } = context;
  const outline = phi3Frame(config);
  const weights = await loadDecoder(context, checkpoint, outline, placement);
  const frequencies = phi3Frequencies(config.rope);
  const inverseFrequencies = gpu.upload(frequencies, [frequencies.length], "f32", "inverse frequencies", "weights");
  const network = { config, inverseFrequencies };
  return decoderClassifier(context, {
    outline,
    weights,
    record: {
      ropeScaling: config.rope.shortFactor === undefined ? "default" : "longrope",
      attentionFactor: config.rope.attentionFactor,
      slidingWindow: Math.max(...config.windows),
    },
    bind: (linears, layer) => {
      const of = (part: string): AdaptedLinear => linears.get(`model.layers.${layer}.${part}`)!;
      const parts = {
        qkv: of("self_attn.qkv_proj"),
        o: of("self_attn.o_proj"),
        gateUp: of("mlp.gate_up_proj"),
        down: of("mlp.down_proj"),
      };
      const trains = Object.values(parts).some(isTrainable);
      return { ...parts, trains, norms: weights.layers[layer]!, window: config.windows[layer]! };
    },
    block: (tape, h, layer, pass) => phi3Block(tape, h, layer, network, pass),
    free: () => gpu.free(inverseFrequencies),
  });
}
