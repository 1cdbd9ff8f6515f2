/** Phi-3 as a classifier with LoRA, in f64 and one sample at a time: written from its equations. */
import type { TensorSource } from "../../core/formats/safetensors.ts";
import { attentionReference } from "../../kernels/attention/reference.ts";
import { gegluReference } from "../../kernels/glu/reference.ts";
import { projectReference } from "../../kernels/lora-linear/reference.ts";
import { rmsNormReference } from "../../kernels/rms-norm/reference.ts";
import { ropeReference } from "../../kernels/rope/reference.ts";

/** What the forward pass reads; widths as config.json names them. */
export interface Phi3InF64 {
  readonly layers: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly intermediateSize: number;
  readonly eps: number;
  /** [rotary columns / 2] f32. */
  readonly inverseFrequencies: Float32Array;
  readonly attentionFactor: number;
  readonly window: number;
  readonly rank: number;
  /** alpha / rank. */
  readonly scale: number;
  /** By their names in the checkpoint, linears dequantized. */
  readonly weights: ReadonlyMap<string, Float64Array>;
  /** The adapter's, by PEFT's names. */
  readonly values: ReadonlyMap<string, ArrayLike<number>>;
}

/** Every weight of a checkpoint whose scales are not quantized themselves. */
export async function readPlainNf4(source: TensorSource): Promise<Map<string, Float64Array>> {
  const weights = new Map<string, Float64Array>();
  for (const [name, { dtype }] of source.tensors) {
    if (dtype === "BF16") {
      const bits = new Uint16Array((await source.read(name)).buffer);
      weights.set(name, Float64Array.from(new Float32Array(Uint32Array.from(bits, (v) => v << 16).buffer)));
    } else if (source.tensors.has(`${name}.absmax`)) {
      const codes = await source.read(name);
      const floats = async (part: string) => new Float32Array((await source.read(`${name}.${part}`)).buffer);
      const [absmax, book] = [await floats("absmax"), await floats("quant_map")];
      const value = (i: number): number => {
        const code = i % 2 === 0 ? codes[i >> 1]! >> 4 : codes[i >> 1]! & 15;
        return book[code]! * absmax[Math.floor(i / 64)]!;
      };
      weights.set(
        name,
        Float64Array.from({ length: codes.length * 2 }, (_, i) => value(i)),
      );
    }
  }
  return weights;
}

/** Logits of one sample. */
export function phi3Logits(model: Phi3InF64, ids: ArrayLike<number>): Float64Array {
  const { weights, values, heads, kvHeads, headDim: D, intermediateSize: F, eps, rank, scale } = model;
  const rows = ids.length;
  const table = weights.get("model.embed_tokens.weight")!;
  const C = weights.get("model.norm.weight")!.length;
  const positions = Array.from({ length: rows }, (_, i) => i);
  const linear = (x: ArrayLike<number>, name: string): Float64Array => {
    const weight = weights.get(`${name}.weight`)!;
    const inFeatures = x.length / rows;
    const of = (matrix: string): ArrayLike<number> => values.get(`base_model.model.${name}.${matrix}.weight`)!;
    const mask = new Float64Array(x.length).fill(1);
    const branch = { a: of("lora_A"), b: of("lora_B"), rank, scale, mask };
    return projectReference(x, rows, inFeatures, { weight, outFeatures: weight.length / inFeatures, branch });
  };
  const part = (x: Float64Array, from: number, size: number): Float64Array =>
    Float64Array.from({ length: rows * size }, (_, i) => {
      const stride = x.length / rows;
      return x[Math.floor(i / size) * stride + from + (i % size)]!;
    });
  const turn = (x: Float64Array): Float64Array =>
    ropeReference(x, x.length / rows, positions, model.inverseFrequencies, 1, {
      headDim: D,
      factor: model.attentionFactor,
    });
  let h: Float64Array = Float64Array.from(
    { length: rows * C },
    (_, i) => table[ids[Math.floor(i / C)]! * C + (i % C)]!,
  );
  const add = (x: Float64Array): Float64Array => h.map((v, i) => v + x[i]!);
  for (let layer = 0; layer < model.layers; layer++) {
    const at = `model.layers.${layer}.`;
    const norm = (name: string): Float64Array => rmsNormReference(h, weights.get(`${at}${name}.weight`)!, eps, 0);
    const qkv = linear(norm("input_layernorm"), `${at}self_attn.qkv_proj`);
    const [q, kv] = [heads * D, kvHeads * D];
    const { out } = attentionReference(turn(part(qkv, 0, q)), turn(part(qkv, q, kv)), part(qkv, q + kv, kv), {
      segments: positions.flatMap(() => [0, rows]),
      heads,
      kvHeads,
      headDim: D,
      scale: D ** -0.5,
      softcap: 0,
      window: model.window,
    });
    h = add(linear(out, `${at}self_attn.o_proj`));
    const gateUp = linear(norm("post_attention_layernorm"), `${at}mlp.gate_up_proj`);
    const activated = gegluReference(part(gateUp, 0, F), part(gateUp, F, F), "silu");
    h = add(linear(activated, `${at}mlp.down_proj`));
  }
  const last = rmsNormReference(h.subarray(h.length - C), weights.get("model.norm.weight")!, eps, 0);
  const score = values.get("base_model.model.score.weight")!;
  return Float64Array.from({ length: score.length / C }, (_, c) =>
    last.reduce((sum, v, i) => sum + v * score[c * C + i]!, 0),
  );
}
