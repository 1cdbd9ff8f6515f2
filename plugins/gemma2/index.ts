import { defineModel, defineOptions, option, pyFloat, quantizationShape } from "qlora/core";
import { decoderLoader } from "qlora/kernels";
import { type Gemma2Config, parseGemma2Config } from "./config.ts";
import { createGemma2 } from "./model.ts";
import { gemma2Outline } from "./outline.ts";

const options = defineOptions({
  checkpoint: option("string", {
    help: "Gemma-2 checkpoint, in 16 bits or quantized to 4 by bitsandbytes: its folder, or its name on the Hugging Face hub",
  }),
  revision: option("string", { optional: true, help: "branch, tag or commit of a hub checkpoint (default: main)" }),
  attnLogitSoftcapping: option("number >= 0", {
    optional: true,
    help: "cap of the attention scores; 0 switches capping off (default: as config.json says)",
  }),
  embeddings: option("'device' | 'host'", {
    optional: true,
    help: "where the token table lies (default: as training.memory chooses); on the host it costs no GPU memory (9B: 1.8 GB)",
  }),
  keepDequantized: option("boolean", {
    optional: true,
    help: "keep f16 copies of the linears for forward passes (default: as training.memory chooses): faster in tier matrix, more memory (9B: 18 GB)",
  }),
  ...quantizationShape,
});

/**
 * Gemma-2 (2B, 9B, 27B) with a score head, from a checkpoint in 16 bits or in 4 of bitsandbytes.
 * @example gemma2({ checkpoint: "unsloth/gemma-2-9b-it-bnb-4bit" })
 */
export const gemma2 = defineModel({
  name: "gemma2",
  modelTypes: ["gemma2"],
  options,
  create({ attnLogitSoftcapping, ...chosen }, host) {
    const loader = decoderLoader<Gemma2Config>(chosen, host, {
      parse: parseGemma2Config,
      outline: gemma2Outline,
      create: (context, files, config, placement) => {
        const softcap = attnLogitSoftcapping ?? config.attnLogitSoftcapping ?? 0;
        return createGemma2(context, files, config, { softcap, ...placement });
      },
    });
    if (attnLogitSoftcapping === undefined) return loader;
    const capped = attnLogitSoftcapping === 0 ? null : pyFloat(attnLogitSoftcapping);
    return { ...loader, configChanges: { attn_logit_softcapping: capped } };
  },
});
