/** The block of a Llama-like decoder, which Gemma, Llama, Mistral and Qwen share: seven linears by Hugging Face's names. */
import { type AdaptedLinear, isTrainable, type LinearSpec } from "./linear.ts";

/** Widths of a decoder, as config.json gives them. */
export interface DecoderWidths {
  readonly hiddenSize: number;
  readonly intermediateSize: number;
  readonly numAttentionHeads: number;
  readonly numKeyValueHeads: number;
  readonly headDim: number;
}

/** The adapted linears of one block. */
export interface DecoderLinears {
  readonly q: AdaptedLinear;
  readonly k: AdaptedLinear;
  readonly v: AdaptedLinear;
  readonly o: AdaptedLinear;
  readonly gate: AdaptedLinear;
  readonly up: AdaptedLinear;
  readonly down: AdaptedLinear;
  /** Whether any of them trains. */
  readonly trains: boolean;
}

/**
 * The seven linears of layer `layer`, in Hugging Face's order.
 * @param prefix the module that holds the layers: `model.language_model` in a model that also sees images
 * @example
 * const widths = { hiddenSize: 64, intermediateSize: 128, numAttentionHeads: 2, numKeyValueHeads: 1, headDim: 32 };
 * const [q, k] = decoderLinears(widths, 0); // model.layers.0.self_attn.q_proj [64,64], k_proj [32,64]
 */
export function decoderLinears(widths: DecoderWidths, layer: number, prefix = "model"): readonly LinearSpec[] {
  const { hiddenSize, intermediateSize, numAttentionHeads, numKeyValueHeads, headDim } = widths;
  const q = numAttentionHeads * headDim;
  const kv = numKeyValueHeads * headDim;
  const sides: readonly (readonly [part: string, outFeatures: number, inFeatures: number])[] = [
    ["self_attn.q_proj", q, hiddenSize],
    ["self_attn.k_proj", kv, hiddenSize],
    ["self_attn.v_proj", kv, hiddenSize],
    ["self_attn.o_proj", hiddenSize, q],
    ["mlp.gate_proj", intermediateSize, hiddenSize],
    ["mlp.up_proj", intermediateSize, hiddenSize],
    ["mlp.down_proj", hiddenSize, intermediateSize],
  ];
  return sides.map(([part, outFeatures, inFeatures]) => ({
    name: `${prefix}.layers.${layer}.${part}`,
    layer,
    inFeatures,
    outFeatures,
  }));
}

/**
 * The linears of layer `layer`, as the adapter has wrapped them.
 * @param linears by full name: what `Model.bind` gets
 * @param prefix as of `decoderLinears`
 */
export function bindDecoderLinears(
  linears: ReadonlyMap<string, AdaptedLinear>,
  layer: number,
  prefix = "model",
): DecoderLinears {
  const of = (part: string): AdaptedLinear => linears.get(`${prefix}.layers.${layer}.${part}`)!;
  const parts = {
    q: of("self_attn.q_proj"),
    k: of("self_attn.k_proj"),
    v: of("self_attn.v_proj"),
    o: of("self_attn.o_proj"),
    gate: of("mlp.gate_proj"),
    up: of("mlp.up_proj"),
    down: of("mlp.down_proj"),
  };
  return { ...parts, trains: Object.values(parts).some(isTrainable) };
}
