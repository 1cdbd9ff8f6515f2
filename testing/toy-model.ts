/** A transformer of random NF4 weights, so that adapters can be tested without a checkpoint. */
import { fileURLToPath } from "node:url";
import type { Batch } from "../core/compute/batch.ts";
import { bindDecoderLinears, type DecoderLinears, decoderLinears } from "../core/compute/decoder.ts";
import { type AdaptedLinear, type LinearSpec, type FrozenWeight } from "../core/compute/linear.ts";
import type { Tape } from "../core/compute/tape.ts";
import type { Gpu } from "../core/device/gpu.ts";
import type { Tensor } from "../core/device/tensor.ts";
import { nf4CodeBook, quantize4bit } from "../core/formats/nf4.ts";
import type { Model, ModelContext, ModelLoader } from "../core/plugin/model.ts";
import { normalValues } from "../core/util/random.ts";
import { addResidual } from "../kernels/add/index.ts";
import { attention } from "../kernels/attention/index.ts";
import { type BlockPass, decoderClassifier, type DecoderOutline, decoderSpec } from "../kernels/decoder/index.ts";
import { embedding } from "../kernels/embedding/index.ts";
import { glu } from "../kernels/glu/index.ts";
import { lastToken } from "../kernels/last-token/index.ts";
import { adaptedLinears } from "../kernels/lora-linear/index.ts";
import { upload4bit } from "../kernels/nf4/index.ts";
import { rmsNorm } from "../kernels/rms-norm/index.ts";
import { rope, ropeInverseFrequencies } from "../kernels/rope/index.ts";

/** Folder of the Gemma-2 of 1.5M parameters that ships with qlora: NF4, its tokenizer beside it. */
export const tinyCheckpoint: string = fileURLToPath(new URL("../assets/tiny-gemma2-nf4", import.meta.url));

const HEADS = 2;
const KV_HEADS = 1;
const HEAD_DIM = 32;
const HIDDEN = HEADS * HEAD_DIM;
const INTERMEDIATE = 128;
const VOCAB = 61;
const NORM = { eps: 1e-6, offset: 1 } as const;

const WIDTHS = {
  hiddenSize: HIDDEN,
  intermediateSize: INTERMEDIATE,
  numAttentionHeads: HEADS,
  numKeyValueHeads: KV_HEADS,
  headDim: HEAD_DIM,
};

/**
 * A model with the linears of two transformer blocks under Hugging Face's names (hidden size 64, intermediate 128), random
 * and the same for the same seed; nothing is read from disk.
 * @example const { linears } = await toyModel({ layers: 1 }).outline(3);
 */
export function toyModel({ layers = 2, seed = 1 }: { layers?: number; seed?: number } = {}): ModelLoader {
  const outline = toyOutline(layers);
  return {
    checkpoint: "toy",
    outline: async (numLabels) => decoderSpec(outline, numLabels),
    load: async (context) => loadToy(context, outline, seed),
  };
}

const toyOutline = (layers: number): DecoderOutline<never> => ({
  config: {
    hiddenSize: HIDDEN,
    vocabSize: VOCAB,
    numHiddenLayers: layers,
    rmsNormEps: NORM.eps,
    numLabels: undefined,
    initializerRange: 0.5,
  },
  linears: (layer) => decoderLinears(WIDTHS, layer),
  norms: [],
  embeddingScale: 1,
  normOffset: NORM.offset,
});

/** Random weights in the frame of a decoder; its blocks share one norm. */
function loadToy(context: ModelContext, outline: DecoderOutline<never>, seed: number): Model {
  const { gpu } = context;
  const layers = Array.from({ length: outline.config.numHiddenLayers }, (_, layer) => layer);
  const specs = layers.flatMap((layer) => outline.linears(layer));
  const linears = new Map(specs.map((spec) => [spec.name, randomNf4(gpu, spec, seed)]));
  const table = gpu.upload(normalValues(VOCAB * HIDDEN, 1, seed, "table"), [VOCAB, HIDDEN], "f32", "table", "weights");
  const norm = gpu.upload(normalValues(HIDDEN, 0.1, seed, "norm"), [HIDDEN], "f32", "norm", "weights");
  const turns = gpu.upload(ropeInverseFrequencies(HEAD_DIM, 100), [HEAD_DIM / 2], "f32", "frequencies", "weights");
  const embeddings = {
    lookup: (batch: Batch, out: Tensor) => embedding(gpu, batch.ids, [{ tensor: table, firstRow: 0 }], out, 1),
    free: () => gpu.free(table),
  };
  return decoderClassifier(context, {
    outline,
    weights: { embedding: embeddings, layers: layers.map(() => ({})), norm, linears },
    record: {},
    bind: bindDecoderLinears,
    block: (tape, h, layer, pass) => block(tape, h, layer, norm, turns, pass),
    pool: (tape, h, batch) => lastToken(tape, h, batch.lastTokens),
    free: () => gpu.free(turns),
  });
}

function block(
  tape: Tape,
  h: Tensor,
  layer: DecoderLinears,
  norm: Tensor,
  turns: Tensor,
  { batch, training, seed }: BlockPass,
): Tensor {
  const run = (x: Tensor, ...linears: AdaptedLinear[]): Tensor[] =>
    adaptedLinears(tape, x, linears, batch, { training, seed });
  const [q, k, v] = run(rmsNorm(tape, h, norm, NORM), layer.q, layer.k, layer.v);
  const turn = (t: Tensor): Tensor => rope(tape, t, batch.segments, turns, HEAD_DIM);
  const context = attention(tape, turn(q!), turn(k!), v!, {
    segments: batch.segments,
    heads: HEADS,
    kvHeads: KV_HEADS,
    headDim: HEAD_DIM,
    scale: HEAD_DIM ** -0.5,
    softcap: 0,
    window: 0,
    maxSeqlen: batch.maxSeqlen,
  });
  const h2 = addResidual(tape, h, run(context, layer.o)[0]!);
  const [gate, up] = run(rmsNorm(tape, h2, norm, NORM), layer.gate, layer.up);
  return addResidual(tape, h2, run(glu(tape, gate!, up!, "silu"), layer.down)[0]!);
}

function randomNf4(gpu: Gpu, { name, inFeatures, outFeatures }: LinearSpec, seed: number): FrozenWeight {
  const { codes, absmax } = quantize4bit(normalValues(inFeatures * outFeatures, inFeatures ** -0.5, seed, name));
  const packed = { shape: [outFeatures, inFeatures], dtype: "float32", codes, codeBook: nf4CodeBook, absmax } as const;
  return { ...upload4bit(gpu, packed, name), rounding: "f32" };
}
