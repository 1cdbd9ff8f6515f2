import { decoderLinears, type ModelSpec } from "qlora/core";
import { type DecoderOutline, decoderSpec } from "qlora/kernels";
import type { Gemma2Config } from "./config.ts";

/** The four norms of a layer, in the order of the forward pass. */
export const LAYER_NORMS = [
  "input_layernorm",
  "post_attention_layernorm",
  "pre_feedforward_layernorm",
  "post_feedforward_layernorm",
] as const;

export type LayerNorm = (typeof LAYER_NORMS)[number];

/** What Gemma-2 is around its blocks: norms multiply by 1 + weight, embeddings are scaled. */
export const gemma2Frame = (config: Gemma2Config): DecoderOutline<LayerNorm> => ({
  config,
  linears: (layer) => decoderLinears(config, layer),
  norms: LAYER_NORMS,
  embeddingScale: Math.sqrt(config.hiddenSize),
  normOffset: 1,
});

/** The model's structure from its config alone. */
export const gemma2Outline = (config: Gemma2Config, numLabels: number): ModelSpec =>
  decoderSpec(gemma2Frame(config), numLabels);
