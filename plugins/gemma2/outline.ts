import { decoderLinears, type LinearSpec, type ModelSpec, type BaseTensorSpec } from "qlora/core";
import type { Gemma2Config } from "./config.ts";

/** Name of the score head in PEFT's files. */
export const SCORE = "base_model.model.score.weight";

/** The four norms of a layer, in the order of the forward pass. */
export const LAYER_NORMS = [
  "input_layernorm",
  "post_attention_layernorm",
  "pre_feedforward_layernorm",
  "post_feedforward_layernorm",
] as const;

/** The model's structure from its config alone. */
export function gemma2Outline(config: Gemma2Config, numLabels: number): ModelSpec {
  const { hiddenSize, numHiddenLayers, vocabSize } = config;
  const linears: LinearSpec[] = [];
  const norm = (name: string): BaseTensorSpec => ({ name, shape: [hiddenSize], dtype: "F32" });
  const rows: BaseTensorSpec[] = [{ name: "model.embed_tokens.weight", shape: [vocabSize, hiddenSize], dtype: "BF16" }];
  for (let layer = 0; layer < numHiddenLayers; layer++) {
    const specs = decoderLinears(config, layer);
    linears.push(...specs);
    rows.push(
      ...specs.map((s): BaseTensorSpec => ({
        name: `${s.name}.weight`,
        shape: [s.outFeatures, s.inFeatures],
        dtype: "NF4",
      })),
    );
    rows.push(...LAYER_NORMS.map((name) => norm(`model.layers.${layer}.${name}.weight`)));
  }
  rows.push(norm("model.norm.weight"), { name: "score.weight", shape: [numLabels, hiddenSize], dtype: "F32" });
  return {
    linears,
    head: [{ name: SCORE, shape: [numLabels, hiddenSize] }],
    baseParameters: rows,
    vocabSize,
    numLabels: config.numLabels,
  };
}
