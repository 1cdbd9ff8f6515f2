import type { LinearSpec, ModelSpec } from "qlora/core";
import { type DecoderOutline, decoderSpec } from "qlora/kernels";
import type { Phi3Config } from "./config.ts";

/** The two norms of a layer, in the order of the forward pass. */
const LAYER_NORMS = ["input_layernorm", "post_attention_layernorm"] as const;

export type LayerNorm = (typeof LAYER_NORMS)[number];

/** Columns of `qkv_proj`: those of the queries, the keys, the values. */
export const qkvSizes = ({
  numAttentionHeads,
  numKeyValueHeads,
  headDim,
}: Phi3Config): readonly [number, number, number] => [
  numAttentionHeads * headDim,
  numKeyValueHeads * headDim,
  numKeyValueHeads * headDim,
];

/** The four linears of layer `layer`: queries, keys and values are one, and so are gate and up. */
function phi3Linears(config: Phi3Config, layer: number): readonly LinearSpec[] {
  const { hiddenSize, intermediateSize } = config;
  const [q, k, v] = qkvSizes(config);
  const sides: readonly (readonly [part: string, outFeatures: number, inFeatures: number])[] = [
    ["self_attn.o_proj", hiddenSize, q],
    ["self_attn.qkv_proj", q + k + v, hiddenSize],
    ["mlp.gate_up_proj", 2 * intermediateSize, hiddenSize],
    ["mlp.down_proj", hiddenSize, intermediateSize],
  ];
  return sides.map(([part, outFeatures, inFeatures]) => ({
    name: `model.layers.${layer}.${part}`,
    layer,
    inFeatures,
    outFeatures,
  }));
}

/** What Phi-3 is around its blocks. */
export const phi3Frame = (config: Phi3Config): DecoderOutline<LayerNorm> => ({
  config,
  linears: (layer) => phi3Linears(config, layer),
  norms: LAYER_NORMS,
  embeddingScale: 1,
  normOffset: 0,
});

/** The model's structure from its config alone. */
export const phi3Outline = (config: Phi3Config, numLabels: number): ModelSpec =>
  decoderSpec(phi3Frame(config), numLabels);
