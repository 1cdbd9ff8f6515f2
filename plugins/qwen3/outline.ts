import { decoderLinears, type ModelSpec } from "qlora/core";
import { type DecoderOutline, decoderSpec } from "qlora/kernels";
import type { Qwen3Config } from "./config.ts";

/** The norms of a layer, in the order of the forward pass. */
const LAYER_NORMS = ["input_layernorm", "self_attn.q_norm", "self_attn.k_norm", "post_attention_layernorm"] as const;

export type LayerNorm = (typeof LAYER_NORMS)[number];

/** What Qwen3 is around its blocks. */
export const qwen3Frame = (config: Qwen3Config): DecoderOutline<LayerNorm> => ({
  config,
  linears: (layer) => decoderLinears(config, layer),
  hasBias: ({ name }) => config.attentionBias && name.includes(".self_attn."),
  norms: LAYER_NORMS,
  normSizes: { "self_attn.q_norm": config.headDim, "self_attn.k_norm": config.headDim },
  embeddingScale: 1,
  normOffset: 0,
});

/** The model's structure from its config alone. */
export const qwen3Outline = (config: Qwen3Config, numLabels: number): ModelSpec =>
  decoderSpec(qwen3Frame(config), numLabels);
