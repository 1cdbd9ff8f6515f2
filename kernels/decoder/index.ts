/**
 * The frame of a decoder that classifies: what Gemma-2, Llama and their like have in common around their blocks. A model gives its
 * outline (linears, norms, embedding) and one block; loading, the head, checkpointing, pooling and freeing are here.
 */
import type { Batch } from "../../core/compute/batch.ts";
import { type ForwardOptions, runBlocks } from "../../core/compute/blocks.ts";
import type { AdaptedLinear, LinearSpec, FrozenWeight } from "../../core/compute/linear.ts";
import type { Parameter, ParameterSet } from "../../core/compute/parameters.ts";
import type { Tape } from "../../core/compute/tape.ts";
import type { Tensor } from "../../core/device/tensor.ts";
import { ModelError } from "../../core/errors.ts";
import { type BaseWeights, nf4Weights } from "../../core/formats/base-weights.ts";
import { readFloats } from "../../core/formats/checkpoint.ts";
import { savedModuleKey } from "../../core/formats/peft.ts";
import type { TensorSource } from "../../core/formats/safetensors.ts";
import { TensorStream } from "../../core/formats/tensor-stream.ts";
import type { BaseTensorSpec } from "../../core/formats/weights.ts";
import type { Model, ModelContext, ModelSpec } from "../../core/plugin/model.ts";
import { normalValues } from "../../core/util/random.ts";
import { loadTokenTable, type EmbeddingPlace, type TokenTable } from "../embedding/table.ts";
import { runPooledBlocks } from "../last-token/blocks.ts";
import { gemmSupports, keepTransposed } from "../matmul-matrix/index.ts";
import { freeWeight } from "../nf4/index.ts";
import { WeightQuantizer } from "../nf4/load-quantized.ts";
import { loadWeight } from "../nf4/load.ts";
import { rmsNorm } from "../rms-norm/index.ts";
import { scoreHead } from "../score-head/index.ts";

/** Name of the score head in PEFT's files. */
const SCORE = savedModuleKey("score");

/** What is known of a decoder from config.json alone. N: names of a layer's norms. */
export interface DecoderOutline<N extends string = string> {
  readonly config: {
    readonly hiddenSize: number;
    readonly vocabSize: number;
    readonly numHiddenLayers: number;
    readonly rmsNormEps: number;
    /** Classes, where the checkpoint fixes them. */
    readonly numLabels?: number | undefined;
    /** Standard deviation of the head's first values. */
    readonly initializerRange: number;
    /** How the linears are stored; default: all in NF4. */
    readonly weights?: BaseWeights | undefined;
  };
  /** The module that holds embedding, layers and last norm. Default: `model`. */
  readonly prefix?: string | undefined;
  /** The linears of layer `layer`, in Hugging Face's order. */
  readonly linears: (layer: number) => readonly LinearSpec[];
  /** Whether a linear has a bias. Default: none has. */
  readonly hasBias?: ((spec: LinearSpec) => boolean) | undefined;
  /** Norms of a layer by the names that follow `model.layers.N.`, in the order of the forward pass. */
  readonly norms: readonly N[];
  /** Sizes of the norms that are not of hidden states, such as those of a query's heads. */
  readonly normSizes?: Readonly<Partial<Record<N, number>>> | undefined;
  /** Embeddings are multiplied by it. */
  readonly embeddingScale: number;
  /** 1 where a norm multiplies by 1 + weight, as Gemma's do. */
  readonly normOffset: 0 | 1;
}

/** All frozen weights on the GPU. */
export interface DecoderWeights<N extends string = string> {
  readonly embedding: TokenTable;
  /** Norms of each layer by name, [C] f32 or of the outline's `normSizes`. */
  readonly layers: readonly Readonly<Record<N, Tensor>>[];
  /** The last norm, [C] f32. */
  readonly norm: Tensor;
  /** By the linear's name. */
  readonly linears: ReadonlyMap<string, FrozenWeight>;
}

/** Where weights are, and in which forms. */
export interface DecoderPlacement {
  readonly embeddings: EmbeddingPlace;
  /** Keep an f16 copy of every linear for forward passes (tier `matrix`; Gemma-2-9B: 18 GB more). */
  readonly keepDequantized: boolean;
}

/** How a block is run. */
export interface BlockPass {
  readonly batch: Batch;
  /** Only the last token of each sample leaves the block: [B,C] instead of [N,C]. */
  readonly pooled: boolean;
  readonly training: boolean;
  readonly seed: number;
}

/** What makes a decoder of the frame. L: a layer as the model's block sees it. */
export interface DecoderParts<L extends { readonly trains: boolean }, N extends string = string> {
  readonly outline: DecoderOutline<N>;
  readonly weights: DecoderWeights<N>;
  /** Facts for the run record. */
  readonly record: Readonly<Record<string, unknown>>;
  /** A layer with the linears as the adapter has wrapped them. */
  readonly bind: (linears: ReadonlyMap<string, AdaptedLinear>, layer: number) => L;
  /** Residual stream h [N,C] f32 -> [N,C] f32; where `pooled`, of last tokens alone, [B,C]. */
  readonly block: (tape: Tape, h: Tensor, layer: L, pass: BlockPass) => Tensor;
  /** [N,C] f32 -> [B,C] f32; default: the last token of each sample, and the last block computes no others. */
  readonly pool?: ((tape: Tape, h: Tensor, batch: Batch) => Tensor) | undefined;
  /** Frees what the model uploaded itself. */
  readonly free?: (() => void) | undefined;
}

const normSize = <N extends string>({ config, normSizes }: DecoderOutline<N>, name: N): number =>
  normSizes?.[name] ?? config.hiddenSize;

/** The model's structure: linears, head and every tensor of the base as Hugging Face counts it. */
export function decoderSpec<N extends string>(outline: DecoderOutline<N>, numLabels: number): ModelSpec {
  const { config, prefix = "model", linears, hasBias = () => false, norms } = outline;
  const { hiddenSize, numHiddenLayers, vocabSize, weights = nf4Weights } = config;
  const floats = (name: string, ...shape: number[]): BaseTensorSpec => ({ name, shape, dtype: "F32" });
  const specs: LinearSpec[] = [];
  const rows: BaseTensorSpec[] = [
    { name: `${prefix}.embed_tokens.weight`, shape: [vocabSize, hiddenSize], dtype: "BF16" },
  ];
  for (let layer = 0; layer < numHiddenLayers; layer++) {
    for (const spec of linears(layer)) {
      specs.push(spec);
      rows.push({
        name: `${spec.name}.weight`,
        shape: [spec.outFeatures, spec.inFeatures],
        dtype: weights.stored(spec.name),
        quantized: weights.quantized(spec.name),
      });
      if (hasBias(spec)) rows.push(floats(`${spec.name}.bias`, spec.outFeatures));
    }
    rows.push(...norms.map((name) => floats(`${prefix}.layers.${layer}.${name}.weight`, normSize(outline, name))));
  }
  rows.push(floats(`${prefix}.norm.weight`, hiddenSize), floats("score.weight", numLabels, hiddenSize));
  return {
    linears: specs,
    head: [{ name: SCORE, shape: [numLabels, hiddenSize] }],
    baseParameters: rows,
    vocabSize,
    numLabels: config.numLabels,
  };
}

/**
 * Streams every frozen tensor of the outline to the GPU: the host holds a piece of a tensor at a time. What else the checkpoint
 * has, such as a language model's head, is not read.
 * @throws ModelError naming the tensor that is missing, misshapen or damaged; DeviceError
 */
export async function loadDecoder<N extends string>(
  { gpu, onProgress }: Pick<ModelContext, "gpu" | "onProgress">,
  checkpoint: TensorSource,
  outline: DecoderOutline<N>,
  { embeddings, keepDequantized }: DecoderPlacement,
): Promise<DecoderWeights<N>> {
  const { prefix = "model" } = outline;
  const { hiddenSize, vocabSize, numHiddenLayers, weights = nf4Weights } = outline.config;
  const rows = decoderSpec(outline, 1).baseParameters;
  const wanted = new Set(rows.map(({ name }) => name));
  const isWanted = (name: string): boolean => wanted.has(name) || wanted.has(name.replace(/(\.weight)\..*$/, "$1"));
  using stream = new TensorStream(gpu, checkpoint, onProgress, isWanted);
  const quantizer = new WeightQuantizer(gpu, stream, rows.filter(({ quantized }) => quantized !== undefined).length);
  const vector = async (name: string, size: number): Promise<Tensor> => {
    const values = await readFloats(checkpoint, name, [size]);
    const tensor = gpu.upload(values, [size], "f32", name, "weights");
    await stream.account(values.byteLength);
    return tensor;
  };
  const linear = async (spec: LinearSpec): Promise<FrozenWeight> => {
    const quantization = weights.quantized(spec.name);
    const loaded = await (quantization === undefined
      ? loadWeight(gpu, stream, spec)
      : quantizer.load(spec, quantization));
    // bitsandbytes' 4-bit products dequantize straight to the activation's type, not through quant_state.dtype.
    const weight: FrozenWeight = loaded.kind === "dense" ? loaded : { ...loaded, rounding: "f32" };
    const kept = keepDequantized && gemmSupports(gpu, weight) ? keepTransposed(gpu, weight) : weight;
    const biased = outline.hasBias?.(spec) === true;
    return biased ? { ...kept, bias: await vector(`${spec.name}.bias`, spec.outFeatures) } : kept;
  };
  const name = `${prefix}.embed_tokens.weight`;
  const table = { name, vocabSize, hiddenSize, scale: outline.embeddingScale, place: embeddings, stream };
  const embedding = await loadTokenTable(gpu, checkpoint, table);
  const layers: Readonly<Record<N, Tensor>>[] = [];
  const linears = new Map<string, FrozenWeight>();
  for (let layer = 0; layer < numHiddenLayers; layer++) {
    for (const spec of outline.linears(layer)) linears.set(spec.name, await linear(spec));
    const norms: Partial<Record<N, Tensor>> = {};
    for (const name of outline.norms) {
      norms[name] = await vector(`${prefix}.layers.${layer}.${name}.weight`, normSize(outline, name));
    }
    layers.push(norms as Record<N, Tensor>);
  }
  const norm = await vector(`${prefix}.norm.weight`, hiddenSize);
  await quantizer.finish();
  await stream.finish();
  return { embedding, layers, norm, linears };
}

/**
 * A decoder with a score head over its pooled rows, [B,L] f32 logits.
 * @throws ModelError LINEAR_UNKNOWN where an adapter asks for a linear that it has not
 */
export function decoderClassifier<L extends { readonly trains: boolean }, N extends string>(
  { gpu, numLabels, seed }: Pick<ModelContext, "gpu" | "numLabels" | "seed">,
  { outline, weights, record, bind, block, pool, free }: DecoderParts<L, N>,
): Model {
  const { hiddenSize, initializerRange, rmsNormEps, numHiddenLayers } = outline.config;
  const size = numLabels * hiddenSize;
  let bound: { readonly layers: readonly L[]; readonly score: Parameter } | undefined;
  const run = (tape: Tape, batch: Batch, options: ForwardOptions): Tensor => {
    const { layers } = bound!;
    const embedded = tape.alloc([batch.tokens, hiddenSize], "f32", "hidden states 0");
    weights.embedding.lookup(batch, embedded);
    const pass = { batch, training: options.training, seed };
    const body = layers.map((layer) => ({
      trains: layer.trains,
      forward: (inner: Tape, h: Tensor, pooled = false) => block(inner, h, layer, { ...pass, pooled }),
    }));
    if (pool === undefined) return runPooledBlocks(tape, embedded, body, batch, options);
    const h = runBlocks(tape, embedded, body, options);
    const pooled = pool(tape, h, batch);
    tape.release(h);
    return pooled;
  };
  return {
    head: [
      { name: SCORE, shape: [numLabels, hiddenSize], initial: () => normalValues(size, initializerRange, seed, SCORE) },
    ],
    record,
    weight({ name }) {
      const found = weights.linears.get(name);
      if (found === undefined) throw new ModelError("LINEAR_UNKNOWN", `the model has no linear ${name}`);
      return found;
    },
    bind(linears, parameters: ParameterSet) {
      const layers = Array.from({ length: numHiddenLayers }, (_, layer) => bind(linears, layer));
      bound = { layers, score: parameters.get(SCORE) };
    },
    forward(tape, batch, options) {
      if (bound === undefined) throw new Error("the model was not bound to its parameters");
      const pooled = run(tape, batch, options);
      // Only the pooled rows are normalized and scored: the same numbers as Hugging Face's, which scores every position.
      const norm = { eps: rmsNormEps, offset: outline.normOffset, dtype: "f32" } as const;
      return scoreHead(tape, rmsNorm(tape, pooled, weights.norm, norm), bound.score);
    },
    destroy() {
      weights.embedding.free();
      for (const norms of weights.layers) for (const tensor of Object.values<Tensor>(norms)) gpu.free(tensor);
      for (const weight of weights.linears.values()) freeWeight(gpu, weight);
      gpu.free(weights.norm);
      free?.();
    },
  };
}
