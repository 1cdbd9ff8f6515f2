import { decoderLinears, type LinearSpec, type ModelSpec, type BaseTensorSpec, savedModuleKey } from "qlora/core";
import type { LlamaConfig } from "./config.ts";

/** Name of the score head in PEFT's files. */
export const SCORE = savedModuleKey("score");

/** The two norms of a layer, in the order of the forward pass. */
export const LAYER_NORMS = ["input_layernorm", "post_attention_layernorm"] as const;

/** Whether a linear has a bias. */
export function hasBias({ biased }: LlamaConfig, { name }: LinearSpec): boolean {
  return biased.includes(name.slice(name.lastIndexOf(".") + 1));
}

/** The model's structure from its config alone. */
export function llamaOutline(config: LlamaConfig, numLabels: number): ModelSpec {
  const { hiddenSize, numHiddenLayers, vocabSize } = config;
  const linears: LinearSpec[] = [];
  const floats = (name: string, ...shape: number[]): BaseTensorSpec => ({ name, shape, dtype: "F32" });
  const rows: BaseTensorSpec[] = [{ name: "model.embed_tokens.weight", shape: [vocabSize, hiddenSize], dtype: "BF16" }];
  for (let layer = 0; layer < numHiddenLayers; layer++) {
    for (const spec of decoderLinears(config, layer)) {
      linears.push(spec);
      rows.push({ name: `${spec.name}.weight`, shape: [spec.outFeatures, spec.inFeatures], dtype: "NF4" });
      if (hasBias(config, spec)) rows.push(floats(`${spec.name}.bias`, spec.outFeatures));
    }
    rows.push(...LAYER_NORMS.map((name) => floats(`model.layers.${layer}.${name}.weight`, hiddenSize)));
  }
  rows.push(floats("model.norm.weight", hiddenSize), floats("score.weight", numLabels, hiddenSize));
  return {
    linears,
    head: [{ name: SCORE, shape: [numLabels, hiddenSize] }],
    baseParameters: rows,
    vocabSize,
    numLabels: config.numLabels,
  };
}
