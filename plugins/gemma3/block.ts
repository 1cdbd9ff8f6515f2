/** Gemma-3's transformer block on a packed batch (huggingface/transformers, models/gemma3/modeling_gemma3.py). */
import type { AdaptedLinear, Batch, DecoderLinears, Tape, Tensor } from "qlora/core";
import {
  adaptedLinears,
  addNorm,
  addNormThenNorm,
  attention,
  type BlockPass,
  glu,
  lastToken,
  pooledAttention,
  rmsNorm,
  rope,
  visiblePairs,
} from "qlora/kernels";
import type { Gemma3Config } from "./config.ts";
import type { LayerNorm } from "./outline.ts";

/** One layer with its adapted linears. */
export interface Gemma3Layer extends DecoderLinears {
  readonly norms: Readonly<Record<LayerNorm, Tensor>>;
  /** 0 in layers that see everything. */
  readonly window: number;
  /** [D/2] f32: layers that slide turn by another base than those that see everything. */
  readonly inverseFrequencies: Tensor;
}

/** One transformer block: residual stream h [N,C] f32 -> [N,C] f32; where `pooled`, of last tokens alone, [B,C]. */
export function gemma3Block(
  tape: Tape,
  h: Tensor,
  { norms, ...layer }: Gemma3Layer,
  config: Gemma3Config,
  { batch, pooled, training, seed }: BlockPass,
): Tensor {
  const norm = { eps: config.rmsNormEps, offset: 1 } as const;
  const run = (rows: Batch, x: Tensor, ...linears: AdaptedLinear[]): Tensor[] =>
    adaptedLinears(tape, x, linears, rows, { training, seed });
  // Each head is normed by itself, then turned to its position.
  const turn = (rows: Batch, t: Tensor, weight: Tensor): Tensor => {
    const normed = rmsNorm(tape, t, weight, { ...norm, headDim: config.headDim });
    tape.release(t);
    const turned = rope(tape, normed, rows.segments, layer.inverseFrequencies, config.headDim);
    tape.release(normed);
    return turned;
  };
  const { "self_attn.q_norm": qNorm, "self_attn.k_norm": kNorm } = norms;
  const attend = {
    segments: batch.segments,
    heads: config.numAttentionHeads,
    kvHeads: config.numKeyValueHeads,
    headDim: config.headDim,
    scale: config.queryPreAttnScalar ** -0.5,
    softcap: config.attnLogitSoftcapping ?? 0,
    window: layer.window,
  } as const;

  // What leaves the block: every row, or the last of each sample, whose keys and values are all rows' nevertheless.
  const rows = pooled ? batch.pooled : batch;
  const residual = pooled ? lastToken(tape, h, batch.lastTokens) : h;
  const x = rmsNorm(tape, h, norms.input_layernorm, norm);
  let context: Tensor;
  if (pooled) {
    const [k, v] = run(batch, x, layer.k, layer.v) as [Tensor, Tensor];
    tape.release(x);
    const last = rmsNorm(tape, residual, norms.input_layernorm, norm);
    const [q] = run(rows, last, layer.q) as [Tensor];
    tape.release(last);
    const [turnedQ, turnedK] = [turn(rows, q, qNorm), turn(batch, k, kNorm)];
    context = pooledAttention(tape, turnedQ, turnedK, v, { ...attend, lastTokens: batch.lastTokens });
    tape.release(turnedQ, turnedK, v);
  } else {
    const [q, k, v] = run(batch, x, layer.q, layer.k, layer.v) as [Tensor, Tensor, Tensor];
    tape.release(x);
    const [turnedQ, turnedK] = [turn(batch, q, qNorm), turn(batch, k, kNorm)];
    const pairs = visiblePairs(batch.host.cuSeqlens, layer.window);
    context = attention(tape, turnedQ, turnedK, v, { ...attend, maxSeqlen: batch.maxSeqlen, pairs });
    tape.release(turnedQ, turnedK, v);
  }
  const [attended] = run(rows, context, layer.o) as [Tensor];
  tape.release(context);
  const { post_attention_layernorm: after, pre_feedforward_layernorm: before } = norms;
  const [h2, y] = addNormThenNorm(tape, residual, attended, after, before, norm);
  tape.release(attended);

  const [gate, up] = run(rows, y, layer.gate, layer.up) as [Tensor, Tensor];
  tape.release(y);
  const activated = glu(tape, gate, up, "gelu_tanh");
  tape.release(gate, up);
  const [down] = run(rows, activated, layer.down) as [Tensor];
  tape.release(activated);
  return addNorm(tape, h2, down, norms.post_feedforward_layernorm, norm);
}
