/** Gemma-2 as a classifier with LoRA, in f64 and one sample at a time: written from its equations, for tests of whole models. */
import { decoderLinears } from "../../core/compute/decoder.ts";
import type { TensorSource } from "../../core/formats/safetensors.ts";
import { attentionReference } from "../../kernels/attention/reference.ts";
import { gegluReference } from "../../kernels/glu/reference.ts";
import { type ReferencePart, projectReference } from "../../kernels/lora-linear/reference.ts";
import { rmsNormReference } from "../../kernels/rms-norm/reference.ts";
import { ropeInverseFrequencies } from "../../kernels/rope/index.ts";
import { ropeReference } from "../../kernels/rope/reference.ts";
import type { Gemma2Config } from "../../plugins/gemma2/config.ts";
import { readNf4 } from "./nf4.ts";

/** A linear's branch: A [R,in] and B [out,R] by their parameters' names. */
export interface NamedBranch {
  readonly a: string;
  readonly b: string;
  readonly rank: number;
  readonly scale: number;
  /** Mask [N,in] of a sample's rows. */
  readonly mask: (sample: number, rows: number, columns: number) => Float64Array;
}

/** What the forward pass reads. */
export interface Gemma2InF64 {
  readonly config: Gemma2Config;
  readonly softcap: number;
  /** By their names in the checkpoint, linears dequantized. */
  readonly weights: ReadonlyMap<string, Float64Array>;
  /** By the linear's name. */
  readonly branches: ReadonlyMap<string, NamedBranch>;
  readonly score: string;
  readonly numLabels: number;
}

/** Every weight of a checkpoint as numbers; NF4 by bitsandbytes' format, f32 as its product reads it. */
export async function readWeights(source: TensorSource, config: Gemma2Config): Promise<Map<string, Float64Array>> {
  const weights = new Map<string, Float64Array>();
  for (const [name, { dtype }] of source.tensors) {
    if (dtype !== "BF16") continue;
    const bits = new Uint16Array((await source.read(name)).buffer);
    weights.set(name, Float64Array.from(new Float32Array(Uint32Array.from(bits, (v) => v << 16).buffer)));
  }
  for (let layer = 0; layer < config.numHiddenLayers; layer++)
    for (const { name: linear } of decoderLinears(config, layer)) {
      const name = `${linear}.weight`;
      const values = await readNf4(source, name, ({ level, map, nested, offset }) => level * (map * nested + offset));
      weights.set(name, values);
    }
  return weights;
}

/** Hidden states [N,C] of one sample after a block, from those before it. */
export function blockInF64(
  model: Gemma2InF64,
  values: ReadonlyMap<string, ArrayLike<number>>,
  layer: number,
  h: Float64Array,
  sample: number,
): Float64Array {
  const { config, softcap, weights, branches } = model;
  const { hiddenSize: C, numAttentionHeads: heads, numKeyValueHeads: kvHeads, headDim } = config;
  const rows = h.length / C;
  const norm = (x: ArrayLike<number>, name: string): Float64Array =>
    rmsNormReference(x, weights.get(`model.layers.${layer}.${name}.weight`)!, config.rmsNormEps, 1);
  const linear = (x: ArrayLike<number>, part: string): Float64Array => {
    const name = `model.layers.${layer}.${part}`;
    const weight = weights.get(`${name}.weight`)!;
    const inFeatures = x.length / rows;
    const found = branches.get(name);
    const branch: ReferencePart["branch"] = found && {
      a: values.get(found.a)!,
      b: values.get(found.b)!,
      rank: found.rank,
      scale: found.scale,
      mask: found.mask(sample, rows, inFeatures),
    };
    return projectReference(x, rows, inFeatures, { weight, outFeatures: weight.length / inFeatures, branch });
  };
  const add = (a: Float64Array, b: Float64Array): Float64Array => a.map((v, i) => v + b[i]!);
  const positions = Array.from({ length: rows }, (_, i) => i);
  const turn = (x: Float64Array): Float64Array =>
    ropeReference(x, x.length / rows, positions, ropeInverseFrequencies(headDim, config.ropeTheta));

  const x = norm(h, "input_layernorm");
  const [q, k, v] = ["q", "k", "v"].map((name) => linear(x, `self_attn.${name}_proj`)) as [
    Float64Array,
    Float64Array,
    Float64Array,
  ];
  const { out } = attentionReference(turn(q), turn(k), v, {
    segments: positions.flatMap(() => [0, rows]),
    heads,
    kvHeads,
    headDim,
    scale: config.queryPreAttnScalar ** -0.5,
    softcap,
    window: config.layerTypes[layer] === "sliding_attention" ? config.slidingWindow : 0,
  });
  const h2 = add(h, norm(linear(out, "self_attn.o_proj"), "post_attention_layernorm"));
  const y = norm(h2, "pre_feedforward_layernorm");
  const activated = gegluReference(linear(y, "mlp.gate_proj"), linear(y, "mlp.up_proj"), "gelu_tanh");
  return add(h2, norm(linear(activated, "mlp.down_proj"), "post_feedforward_layernorm"));
}

/** [N,C]: the rows of the token table, scaled. */
export function embeddedInF64({ config, weights }: Gemma2InF64, ids: ArrayLike<number>): Float64Array {
  const C = config.hiddenSize;
  const table = weights.get("model.embed_tokens.weight")!;
  const scale = Math.sqrt(C);
  return Float64Array.from({ length: ids.length * C }, (_, i) => scale * table[ids[Math.floor(i / C)]! * C + (i % C)]!);
}

/** Logits [L] of a sample's last hidden state. */
export function logitsInF64(
  { config, weights, score, numLabels }: Gemma2InF64,
  values: ReadonlyMap<string, ArrayLike<number>>,
  h: Float64Array,
): Float64Array {
  const C = config.hiddenSize;
  const last = rmsNormReference(h.subarray(h.length - C), weights.get("model.norm.weight")!, config.rmsNormEps, 1);
  const head = values.get(score)!;
  return Float64Array.from({ length: numLabels }, (_, c) => last.reduce((sum, v, i) => sum + v * head[c * C + i]!, 0));
}
