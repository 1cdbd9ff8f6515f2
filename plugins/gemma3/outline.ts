import { decoderLinears, type ModelSpec } from "qlora/core";
import { type DecoderOutline, decoderSpec } from "qlora/kernels";
import type { Gemma3Config } from "./config.ts";

/** The norms of a layer, in the order of the forward pass. */
const LAYER_NORMS = [
  "input_layernorm",
  "self_attn.q_norm",
  "self_attn.k_norm",
  "post_attention_layernorm",
  "pre_feedforward_layernorm",
  "post_feedforward_layernorm",
] as const;

export type LayerNorm = (typeof LAYER_NORMS)[number];

/** What Gemma-3 is around its blocks: norms multiply by 1 + weight, embeddings are scaled. */
export const gemma3Frame = (config: Gemma3Config): DecoderOutline<LayerNorm> => ({
  config,
  prefix: config.prefix,
  linears: (layer) => decoderLinears(config, layer, config.prefix),
  norms: LAYER_NORMS,
  normSizes: { "self_attn.q_norm": config.headDim, "self_attn.k_norm": config.headDim },
  embeddingScale: Math.sqrt(config.hiddenSize),
  normOffset: 1,
});

/** The model's structure from its config alone. */
export const gemma3Outline = (config: Gemma3Config, numLabels: number): ModelSpec =>
  decoderSpec(gemma3Frame(config), numLabels);
