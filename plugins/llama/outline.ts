import { decoderLinears, type LinearSpec, type ModelSpec } from "qlora/core";
import { type DecoderOutline, decoderSpec } from "qlora/kernels";
import type { LlamaConfig } from "./config.ts";

/** The two norms of a layer, in the order of the forward pass. */
const LAYER_NORMS = ["input_layernorm", "post_attention_layernorm"] as const;

export type LayerNorm = (typeof LAYER_NORMS)[number];

/** Whether a linear has a bias. */
function hasBias({ biased }: LlamaConfig, { name }: LinearSpec): boolean {
  return biased.includes(name.slice(name.lastIndexOf(".") + 1));
}

/** What these models are around their blocks. */
export const llamaFrame = (config: LlamaConfig): DecoderOutline<LayerNorm> => ({
  config,
  linears: (layer) => decoderLinears(config, layer),
  hasBias: (spec) => hasBias(config, spec),
  norms: LAYER_NORMS,
  embeddingScale: 1,
  normOffset: 0,
});

/** The model's structure from its config alone. */
export const llamaOutline = (config: LlamaConfig, numLabels: number): ModelSpec =>
  decoderSpec(llamaFrame(config), numLabels);
