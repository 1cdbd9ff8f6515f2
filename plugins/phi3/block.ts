/** Phi-3's transformer block on a packed batch (huggingface/transformers, models/phi3/modeling_phi3.py). */
import { type AdaptedLinear, type Batch, ModelError, type Tape, type Tensor } from "qlora/core";
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
  splitColumns,
  visiblePairs,
} from "qlora/kernels";
import type { Phi3Config } from "./config.ts";
import { type LayerNorm, qkvSizes } from "./outline.ts";

/** One layer with its adapted linears. */
export interface Phi3Layer {
  readonly qkv: AdaptedLinear;
  readonly o: AdaptedLinear;
  readonly gateUp: AdaptedLinear;
  readonly down: AdaptedLinear;
  /** Whether any of them trains. */
  readonly trains: boolean;
  readonly norms: Readonly<Record<LayerNorm, Tensor>>;
  /** 0 in layers that see everything. */
  readonly window: number;
}

/** What all blocks share. */
export interface Phi3Network {
  readonly config: Phi3Config;
  /** [rotaryDim/2] f32. */
  readonly inverseFrequencies: Tensor;
}

/** One transformer block: residual stream h [N,C] f32 -> [N,C] f32; where `pooled`, of last tokens alone, [B,C]. */
export function phi3Block(
  tape: Tape,
  h: Tensor,
  layer: Phi3Layer,
  { config, inverseFrequencies }: Phi3Network,
  { batch, pooled, training, seed }: BlockPass,
): Tensor {
  const { maxPositions, attentionFactor } = config.rope;
  if (batch.maxSeqlen > maxPositions) throw tooLong(batch.maxSeqlen, maxPositions);
  const norm = { eps: config.rmsNormEps, offset: 0 } as const;
  const run = (rows: Batch, x: Tensor, linear: AdaptedLinear): Tensor =>
    adaptedLinears(tape, x, [linear], rows, { training, seed })[0]!;
  const split = (t: Tensor, sizes: readonly number[]): Tensor[] => {
    const parts = splitColumns(tape, t, sizes);
    tape.release(t);
    return parts;
  };
  const turn = (rows: Batch, t: Tensor): Tensor => {
    const turned = rope(tape, t, rows.segments, inverseFrequencies, config.headDim, attentionFactor);
    tape.release(t);
    return turned;
  };
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
  const [q, k, v] = split(run(batch, x, layer.qkv), qkvSizes(config)) as [Tensor, Tensor, Tensor];
  tape.release(x);
  const turnedK = turn(batch, k);
  let context: Tensor;
  if (pooled) {
    // One product gives queries with keys and values: those of other rows than the last go.
    const last = lastToken(tape, q, batch.lastTokens);
    tape.release(q);
    const turnedQ = turn(rows, last);
    context = pooledAttention(tape, turnedQ, turnedK, v, { ...attend, lastTokens: batch.lastTokens });
    tape.release(turnedQ);
  } else {
    const turnedQ = turn(batch, q);
    const pairs = visiblePairs(batch.host.cuSeqlens, layer.window);
    context = attention(tape, turnedQ, turnedK, v, { ...attend, maxSeqlen: batch.maxSeqlen, pairs });
    tape.release(turnedQ);
  }
  tape.release(turnedK, v);
  const attended = run(rows, context, layer.o);
  tape.release(context);
  const h2 = addResidual(tape, residual, attended);
  tape.release(attended);

  const y = rmsNorm(tape, h2, layer.norms.post_attention_layernorm, norm);
  const { intermediateSize: F } = config;
  const [gate, up] = split(run(rows, y, layer.gateUp), [F, F]) as [Tensor, Tensor];
  tape.release(y);
  const activated = glu(tape, gate, up, "silu");
  tape.release(gate, up);
  const down = run(rows, activated, layer.down);
  tape.release(activated);
  return addResidual(tape, h2, down);
}

/** Longer texts are turned by other frequencies: a result with these would be another model's. */
function tooLong(tokens: number, most: number): ModelError {
  return new ModelError(
    "ROPE_TOO_LONG",
    `a row has ${tokens} tokens, and the short frequencies of this model's longrope scaling hold up to ${most}`,
    { hint: `Set data.maxLength to ${most} or less; the long frequencies are not supported.` },
  );
}
