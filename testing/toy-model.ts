import type { Gpu } from "../core/device/gpu.ts";

/** A transformer of random NF4 weights, so that adapters can be tested without a checkpoint. */
import { fileURLToPath } from "node:url";
import type { Batch } from "../core/compute/batch.ts";
import { runBlocks } from "../core/compute/blocks.ts";
import { decoderLinears } from "../core/compute/decoder.ts";
import { type AdaptedLinear, isTrainable, type LinearSpec, type Nf4Weight } from "../core/compute/linear.ts";
import type { ParameterSet } from "../core/compute/parameters.ts";
import type { Tape } from "../core/compute/tape.ts";
import type { Tensor } from "../core/device/tensor.ts";
import { ModelError } from "../core/errors.ts";
import { nf4CodeBook, quantizeNf4 } from "../core/formats/nf4.ts";
import type { Model, ModelContext, ModelSpec, ModelLoader } from "../core/plugin/model.ts";
import { normalValues } from "../core/util/random.ts";
import { addResidual } from "../kernels/add/index.ts";
import { attention } from "../kernels/attention/index.ts";
import { embedding } from "../kernels/embedding/index.ts";
import { glu } from "../kernels/glu/index.ts";
import { lastToken } from "../kernels/last-token/index.ts";
import { adaptedLinears } from "../kernels/lora-linear/adapted.ts";
import { freeNf4, uploadNf4 } from "../kernels/nf4/index.ts";
import { rmsNorm } from "../kernels/rms-norm/index.ts";
import { rope, ropeInverseFrequencies } from "../kernels/rope/index.ts";
import { scoreHead } from "../kernels/score-head/index.ts";

/** Folder of the Gemma-2 of 1.5M parameters that ships with qlora: NF4, its tokenizer beside it. */
export const tinyCheckpoint: string = fileURLToPath(new URL("../assets/tiny-gemma2-nf4", import.meta.url));

const HEADS = 2;
const KV_HEADS = 1;
const HEAD_DIM = 32;
const HIDDEN = HEADS * HEAD_DIM;
const INTERMEDIATE = 128;
const VOCAB = 61;
const SCORE = "base_model.model.score.weight";
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
  const linears = Array.from({ length: layers }, (_, layer) => decoderLinears(WIDTHS, layer)).flat();
  return {
    checkpoint: "toy",
    outline: async (numLabels) => toyOutline(linears, numLabels),
    load: async (context) => loadToy(context, linears, layers, seed),
  };
}

function toyOutline(linears: readonly LinearSpec[], numLabels: number): ModelSpec {
  return {
    linears,
    head: [{ name: SCORE, shape: [numLabels, HIDDEN] }],
    baseParameters: [
      { name: "model.embed_tokens.weight", shape: [VOCAB, HIDDEN], dtype: "F32" },
      ...linears.map((l) => ({ name: `${l.name}.weight`, shape: [l.outFeatures, l.inFeatures], dtype: "NF4" })),
      { name: "score.weight", shape: [numLabels, HIDDEN], dtype: "F32" },
    ],
    vocabSize: VOCAB,
    numLabels: undefined,
  };
}

function loadToy(
  { gpu, numLabels, seed: headSeed }: ModelContext,
  linears: readonly LinearSpec[],
  layers: number,
  seed: number,
): Model {
  const weights = new Map(linears.map((spec) => [spec.name, randomNf4(gpu, spec, seed)]));
  const table = gpu.upload(normalValues(VOCAB * HIDDEN, 1, seed, "table"), [VOCAB, HIDDEN], "f32", "table", "weights");
  const norm = gpu.upload(normalValues(HIDDEN, 0.1, seed, "norm"), [HIDDEN], "f32", "norm", "weights");
  const turns = gpu.upload(ropeInverseFrequencies(HEAD_DIM, 100), [HEAD_DIM / 2], "f32", "frequencies", "weights");
  let adapted: ReadonlyMap<string, AdaptedLinear> = new Map();
  let parameters: ParameterSet | undefined;

  function block(tape: Tape, h: Tensor, layer: number, batch: Batch, training: boolean): Tensor {
    const run = (x: Tensor, ...parts: string[]): Tensor[] =>
      adaptedLinears(
        tape,
        x,
        parts.map((part) => adapted.get(`model.layers.${layer}.${part}`)!),
        batch,
        { training, seed: headSeed },
      );
    const x = rmsNorm(tape, h, norm, NORM);
    const [q, k, v] = run(x, "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj");
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
    const h2 = addResidual(tape, h, run(context, "self_attn.o_proj")[0]!);
    const [gate, up] = run(rmsNorm(tape, h2, norm, NORM), "mlp.gate_proj", "mlp.up_proj");
    return addResidual(tape, h2, run(glu(tape, gate!, up!, "silu"), "mlp.down_proj")[0]!);
  }

  const trains = (layer: number): boolean =>
    [...adapted.values()].some((each) => each.spec.layer === layer && isTrainable(each));

  return {
    head: [
      {
        name: SCORE,
        shape: [numLabels, HIDDEN],
        initial: () => normalValues(numLabels * HIDDEN, 0.5, headSeed, SCORE),
      },
    ],
    record: {},
    weight({ name }) {
      const found = weights.get(name);
      if (found === undefined) throw new ModelError("LINEAR_UNKNOWN", `the toy has no linear ${name}`);
      return found;
    },
    bind(bound, set) {
      adapted = bound;
      parameters = set;
    },
    forward(tape, batch, options) {
      const embedded = tape.alloc([batch.tokens, HIDDEN], "f32", "hidden states");
      embedding(gpu, batch.ids, [{ tensor: table, firstRow: 0 }], embedded, 1);
      const blocks = Array.from({ length: layers }, (_, layer) => ({
        trains: trains(layer),
        forward: (inner: Tape, h: Tensor) => block(inner, h, layer, batch, options.training),
      }));
      const h = runBlocks(tape, embedded, blocks, options);
      const last = rmsNorm(tape, lastToken(tape, h, batch.lastTokens), norm, { ...NORM, dtype: "f32" });
      return scoreHead(tape, last, parameters!.get(SCORE));
    },
    destroy() {
      for (const weight of weights.values()) freeNf4(gpu, weight);
      for (const tensor of [table, norm, turns]) gpu.free(tensor);
    },
  };
}

function randomNf4(gpu: Gpu, { name, inFeatures, outFeatures }: LinearSpec, seed: number): Nf4Weight {
  const { codes, absmax } = quantizeNf4(normalValues(inFeatures * outFeatures, inFeatures ** -0.5, seed, name));
  const packed = { shape: [outFeatures, inFeatures], dtype: "float32", codes, codeBook: nf4CodeBook, absmax } as const;
  return { ...uploadNf4(gpu, packed, name), rounding: "f32" };
}
