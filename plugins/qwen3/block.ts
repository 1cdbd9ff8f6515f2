/** Qwen3's transformer block on a packed batch (huggingface/transformers, models/qwen3/modeling_qwen3.py). */
import type { AdaptedLinear, Batch, DecoderLinears, Tape, Tensor } from "qlora/core";
import {
  adaptedLinears,
  addResidual,
  attention,
  type BlockPass,
  glu,
  lastToken,
  pooledAttention,
  rmsNorm,
  rope,
  visiblePairs,
} from "qlora/kernels";
import type { Qwen3Config } from "./config.ts";
import type { LayerNorm } from "./outline.ts";

/** One layer with its adapted linears. */
export interface Qwen3Layer extends DecoderLinears {
  readonly norms: Readonly<Record<LayerNorm, Tensor>>;
  /** 0 in layers that see everything. */
  readonly window: number;
}

/** What all blocks share. */
export interface Qwen3Network {
  readonly config: Qwen3Config;
  /** [D/2] f32. */
  readonly inverseFrequencies: Tensor;
}

/** One transformer block: residual stream h [N,C] f32 -> [N,C] f32; where `pooled`, of last tokens alone, [B,C]. */
export function qwen3Block(
  tape: Tape,
  h: Tensor,
  layer: Qwen3Layer,
  { config, inverseFrequencies }: Qwen3Network,
  { batch, pooled, training, seed }: BlockPass,
): Tensor {
  const norm = { eps: config.rmsNormEps, offset: 0 } as const;
  const run = (rows: Batch, x: Tensor, ...linears: AdaptedLinear[]): Tensor[] =>
    adaptedLinears(tape, x, linears, rows, { training, seed });
  // Each head is normed by itself, then turned to its position.
  const turn = (rows: Batch, t: Tensor, weight: Tensor): Tensor => {
    const normed = rmsNorm(tape, t, weight, { ...norm, headDim: config.headDim });
    tape.release(t);
    const turned = rope(tape, normed, rows.segments, inverseFrequencies, config.headDim);
    tape.release(normed);
    return turned;
  };
  const { "self_attn.q_norm": qNorm, "self_attn.k_norm": kNorm } = layer.norms;
  const attend = {
    segments: batch.segments,
    heads: config.numAttentionHeads,
    kvHeads: config.numKeyValueHeads,
    headDim: config.headDim,
    scale: config.headDim ** -0.5,
    softcap: 0,
    window: layer.window,
  } as const;

  // What leaves the block: every row, or the last of each sample, whose keys and values are all rows' nevertheless.
  const rows = pooled ? batch.pooled : batch;
  const residual = pooled ? lastToken(tape, h, batch.lastTokens) : h;
  const x = rmsNorm(tape, h, layer.norms.input_layernorm, norm);
  let context: Tensor;
  if (pooled) {
    const [k, v] = run(batch, x, layer.k, layer.v) as [Tensor, Tensor];
    tape.release(x);
    const last = rmsNorm(tape, residual, layer.norms.input_layernorm, norm);
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
  const h2 = addResidual(tape, residual, attended);
  tape.release(attended);

  const y = rmsNorm(tape, h2, layer.norms.post_attention_layernorm, norm);
  const [gate, up] = run(rows, y, layer.gate, layer.up) as [Tensor, Tensor];
  tape.release(y);
  const activated = glu(tape, gate, up, "silu");
  tape.release(gate, up);
  const [down] = run(rows, activated, layer.down) as [Tensor];
  tape.release(activated);
  return addResidual(tape, h2, down);
}
