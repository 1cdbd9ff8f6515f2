/** Gemma-2's forward pass on a packed batch (huggingface/transformers, models/gemma2/modeling_gemma2.py). */
import {
  type AdaptedLinear,
  type Batch,
  bindDecoderLinears,
  type DecoderLinears,
  type ForwardOptions,
  type Parameter,
  type Tape,
  type Tensor,
} from "qlora/core";
import {
  adaptedLinears,
  addNorm,
  addNormThenNorm,
  attention,
  glu,
  scoreHead,
  lastToken,
  pooledAttention,
  rmsNorm,
  rope,
  runPooledBlocks,
  visiblePairs,
} from "qlora/kernels";
import type { Gemma2Config } from "./config.ts";
import type { Gemma2Weights, LayerWeights } from "./load.ts";

/** One block with its adapted linears. */
export interface Gemma2Block extends DecoderLinears {
  readonly norms: LayerWeights["norms"];
  /** 0 in layers that see everything. */
  readonly window: number;
}

/** All that the forward pass reads. */
export interface Gemma2Network {
  readonly config: Gemma2Config;
  /** 0 switches soft-capping off. */
  readonly softcap: number;
  readonly seed: number;
  readonly weights: Gemma2Weights;
  readonly blocks: readonly Gemma2Block[];
  /** [D/2] f32. */
  readonly inverseFrequencies: Tensor;
  readonly score: Parameter;
}

/** Blocks from the adapter's view of every linear. */
export function gemma2Blocks(
  config: Gemma2Config,
  weights: Gemma2Weights,
  linears: ReadonlyMap<string, AdaptedLinear>,
): Gemma2Block[] {
  return weights.layers.map(({ norms }, layer) => {
    const window = config.layerTypes[layer] === "sliding_attention" ? config.slidingWindow : 0;
    return { ...bindDecoderLinears(linears, layer), norms, window };
  });
}

/** One transformer block: residual stream h [N,C] f32 -> [N,C] f32; where `pooled`, of last tokens alone, [B,C]. */
function block(
  tape: Tape,
  h: Tensor,
  layer: Gemma2Block,
  network: Gemma2Network,
  batch: Batch,
  { training, pooled }: { readonly training: boolean; readonly pooled: boolean },
): Tensor {
  const { config, softcap, seed, inverseFrequencies } = network;
  const { norms } = layer;
  const norm = { eps: config.rmsNormEps, offset: 1 } as const;
  const run = (rows: Batch, x: Tensor, ...linears: AdaptedLinear[]): Tensor[] =>
    adaptedLinears(tape, x, linears, rows, { training, seed });
  const turn = (rows: Batch, t: Tensor): Tensor => {
    const turned = rope(tape, t, rows.segments, inverseFrequencies, config.headDim);
    tape.release(t);
    return turned;
  };
  const attend = {
    segments: batch.segments,
    heads: config.numAttentionHeads,
    kvHeads: config.numKeyValueHeads,
    headDim: config.headDim,
    scale: config.queryPreAttnScalar ** -0.5,
    softcap,
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
    const [turnedQ, turnedK] = [turn(rows, q), turn(batch, k)];
    context = pooledAttention(tape, turnedQ, turnedK, v, { ...attend, lastTokens: batch.lastTokens });
    tape.release(turnedQ, turnedK, v);
  } else {
    const [q, k, v] = run(batch, x, layer.q, layer.k, layer.v) as [Tensor, Tensor, Tensor];
    tape.release(x);
    const [turnedQ, turnedK] = [turn(batch, q), turn(batch, k)];
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

/** [B,L] f32 logits at each sample's last token. */
export function gemma2Forward(tape: Tape, network: Gemma2Network, batch: Batch, options: ForwardOptions): Tensor {
  const { config, weights, blocks, score } = network;
  const embedded = tape.alloc([batch.tokens, config.hiddenSize], "f32", "hidden states 0");
  weights.embedding.lookup(batch, embedded);
  const body = blocks.map((layer) => ({
    trains: layer.trains,
    forward: (inner: Tape, h: Tensor, pooled: boolean) =>
      block(inner, h, layer, network, batch, { training: options.training, pooled }),
  }));
  const last = runPooledBlocks(tape, embedded, body, batch, options);
  // Only the pooled rows are normalized and scored: the same numbers as Hugging Face's, which scores every position.
  const normed = rmsNorm(tape, last, weights.norm, { eps: config.rmsNormEps, offset: 1, dtype: "f32" });
  return scoreHead(tape, normed, score);
}
