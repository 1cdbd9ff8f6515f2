/**
 * Checkpoints of Gemma-2's published shapes with random weights in the exact format: for benchmarks, and to try loading
 * at size without a download.
 */
import { decoderLinears } from "../core/compute/decoder.ts";
import { baseWeights } from "../core/formats/base-weights.ts";
import { createDynamicMap } from "../core/formats/dynamic-map.ts";
import { f32ToBf16 } from "../core/formats/half.ts";
import { NESTED_BLOCK_SIZE, DEFAULT_BLOCK_SIZE, nf4CodeBook } from "../core/formats/nf4.ts";
import type { TensorInfo } from "../core/formats/safetensors-header.ts";
import { missingTensor, type TensorSource } from "../core/formats/safetensors.ts";
import { parseGemma2Config, type Gemma2Config } from "../plugins/gemma2/config.ts";
import { LAYER_NORMS } from "../plugins/gemma2/outline.ts";

const SIZES = {
  "gemma2-2b": { hidden: 2304, layers: 26, heads: 8, kv: 4, headDim: 256, intermediate: 9216, scalar: 256 },
  "gemma2-9b": { hidden: 3584, layers: 42, heads: 16, kv: 8, headDim: 256, intermediate: 14336, scalar: 256 },
  "gemma2-27b": { hidden: 4608, layers: 46, heads: 32, kv: 16, headDim: 128, intermediate: 36864, scalar: 144 },
} as const;

/** Shapes that `syntheticGemma2` knows. */
export type Gemma2Shape = keyof typeof SIZES;

/** How many layers, and how they are stored. */
interface SyntheticForm {
  /** Default: as published. */
  readonly layers?: number | undefined;
  /** Default nf4, double-quantized. */
  readonly dtype?: "nf4" | "bf16" | undefined;
}

/** config.json of a shape. */
export function syntheticConfigJson(
  shape: Gemma2Shape,
  { layers, dtype = "nf4" }: SyntheticForm = {},
): Record<string, unknown> {
  const size = SIZES[shape];
  return {
    architectures: ["Gemma2ForCausalLM"],
    model_type: "gemma2",
    vocab_size: 256000,
    hidden_size: size.hidden,
    num_hidden_layers: layers ?? size.layers,
    num_attention_heads: size.heads,
    num_key_value_heads: size.kv,
    head_dim: size.headDim,
    intermediate_size: size.intermediate,
    query_pre_attn_scalar: size.scalar,
    rms_norm_eps: 1e-6,
    rope_theta: 10000,
    sliding_window: 4096,
    attn_logit_softcapping: 50,
    final_logit_softcapping: 30,
    hidden_activation: "gelu_pytorch_tanh",
    max_position_embeddings: 8192,
    pad_token_id: 0,
    eos_token_id: 1,
    bos_token_id: 2,
    torch_dtype: "bfloat16",
    ...(dtype === "nf4" && {
      quantization_config: {
        quant_method: "bitsandbytes",
        load_in_4bit: true,
        bnb_4bit_quant_type: "nf4",
        bnb_4bit_use_double_quant: true,
        bnb_4bit_compute_dtype: "bfloat16",
      },
    }),
  };
}

/** How the random weights are scaled. */
export interface SyntheticOptions extends Pick<SyntheticForm, "dtype"> {
  readonly seed: number;
  /** Largest weight of a block is about this; the published models have some 0.05. Default 0.05. */
  readonly absmax?: number;
  /** 1 + w of the norms that end a sublayer, to drive the residual stream up. Default 1. */
  readonly normScale?: number;
}

const NOISE_BYTES = 1 << 24;

/** A config and a source of its tensors; bytes are made when they are read. */
export function syntheticGemma2(
  shape: Gemma2Shape,
  options: SyntheticOptions,
  layers?: number,
): { readonly config: Gemma2Config; readonly source: TensorSource } {
  const path = `synthetic ${shape}`;
  const parsed = parseGemma2Config(syntheticConfigJson(shape, { layers, dtype: options.dtype }), path);
  const config = { ...parsed, weights: baseWeights(parsed, {}, path) };
  return { config, source: syntheticSource(config, options) };
}

/** Bytes `begin` to `end` of a tensor; recreated, the same each time. */
type Part = (begin: number, end: number) => Uint8Array<ArrayBuffer>;

/** Random tensors for a config: every name, dtype and shape that a bitsandbytes checkpoint of it has. */
export function syntheticSource(
  config: Gemma2Config,
  { seed, absmax = 0.05, normScale = 1, dtype = "nf4" }: SyntheticOptions,
): TensorSource {
  const makers = new Map<string, { readonly info: TensorInfo; readonly part: Part }>();
  const noise = noiseBytes(seed);
  let at = 0;
  const add = (name: string, dtype: TensorInfo["dtype"], shape: readonly number[], bytes: number, part: Part): void => {
    makers.set(name, { info: { dtype, shape, begin: at, end: at + bytes }, part });
    at += bytes;
  };
  const norm = (name: string): void => {
    const level = name.includes("post_") ? normScale : 1;
    const values = Float32Array.from(
      { length: config.hiddenSize },
      (_, i) => level - 1 + 0.1 * Math.sin(i + name.length),
    );
    add(name, "BF16", [config.hiddenSize], config.hiddenSize * 2, whole(bytesOf(f32ToBf16(values))));
  };
  const table = config.vocabSize * config.hiddenSize;
  const halves = bf16Noise(noise);
  add("model.embed_tokens.weight", "BF16", [config.vocabSize, config.hiddenSize], table * 2, noisePart(halves, 7));
  const map = bytesOf(createDynamicMap(true));
  const book = bytesOf(nf4CodeBook);
  for (let layer = 0; layer < config.numHiddenLayers; layer++) {
    for (const spec of decoderLinears(config, layer)) {
      const name = `${spec.name}.weight`;
      const elements = spec.outFeatures * spec.inFeatures;
      if (dtype === "bf16") {
        add(name, "BF16", [spec.outFeatures, spec.inFeatures], elements * 2, noisePart(halves, elements + layer));
        continue;
      }
      const blocks = Math.ceil(elements / DEFAULT_BLOCK_SIZE);
      const nested = Math.ceil(blocks / NESTED_BLOCK_SIZE);
      const state = new TextEncoder().encode(
        `{"quant_type": "nf4", "blocksize": ${DEFAULT_BLOCK_SIZE}, "dtype": "bfloat16", "shape": [${spec.outFeatures}, ${spec.inFeatures}], ` +
          `"nested_blocksize": ${NESTED_BLOCK_SIZE}, "nested_dtype": "float32", "nested_offset": ${absmax}}`,
      );
      add(name, "U8", [Math.ceil(elements / 2), 1], Math.ceil(elements / 2), noisePart(noise, elements + layer));
      add(`${name}.absmax`, "U8", [blocks], blocks, noisePart(noise, blocks + layer));
      add(
        `${name}.nested_absmax`,
        "F32",
        [nested],
        nested * 4,
        whole(bytesOf(new Float32Array(nested).fill(absmax / 4))),
      );
      add(`${name}.nested_quant_map`, "F32", [256], 1024, whole(map));
      add(`${name}.quant_map`, "F32", [16], 64, whole(book));
      add(`${name}.quant_state.bitsandbytes__nf4`, "U8", [state.length], state.length, whole(state));
    }
    for (const name of LAYER_NORMS) norm(`model.layers.${layer}.${name}.weight`);
  }
  norm("model.norm.weight");

  const read = (name: string, begin = 0, end?: number): Uint8Array<ArrayBuffer> => {
    const found = makers.get(name);
    if (found === undefined) throw missingTensor("synthetic checkpoint", name);
    const size = found.info.end - found.info.begin;
    return found.part(begin, Math.min(end ?? size, size));
  };
  return {
    tensors: new Map([...makers].map(([name, { info }]) => [name, info])),
    pathOf: () => "synthetic checkpoint",
    read: async (name) => read(name),
    readInto: async (name, target, offset = 0) => target.set(read(name, offset, offset + target.length)),
    async *stream(name, chunkBytes) {
      const size = makers.has(name) ? makers.get(name)!.info.end - makers.get(name)!.info.begin : 0;
      for (let start = 0; start < size; start += chunkBytes) yield read(name, start, start + chunkBytes);
    },
    close: async () => {},
    [Symbol.asyncDispose]: async () => {},
  };
}

function whole(bytes: Uint8Array<ArrayBuffer>): Part {
  return (begin, end) => bytes.slice(begin, end);
}

function bytesOf(
  array: Float32Array<ArrayBuffer> | Uint16Array<ArrayBuffer> | Readonly<Float32Array>,
): Uint8Array<ArrayBuffer> {
  return new Uint8Array(array.buffer as ArrayBuffer, array.byteOffset, array.byteLength).slice();
}

/** Random bytes to cut slices from (xorshift32): recreating gigabytes would take longer than loading them. */
function noiseBytes(seed: number): Uint8Array<ArrayBuffer> {
  const words = new Uint32Array(NOISE_BYTES / 4);
  let state = (seed ^ 0x9e3779b9) >>> 0 || 1;
  for (let i = 0; i < words.length; i++) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    words[i] = state >>> 0;
  }
  return new Uint8Array(words.buffer);
}

/** Pieces of the noise from a start of the tensor's own. */
function noisePart(noise: Uint8Array<ArrayBuffer>, salt: number): Part {
  const start = (Math.imul(salt, 0x9e3779b1) >>> 9) * 2; // even: the noise may hold 16-bit numbers
  return (begin, end) => {
    const out = new Uint8Array(end - begin);
    for (let done = 0; done < out.length;) {
      const from = (start + begin + done) % noise.length;
      const piece = noise.subarray(from, from + Math.min(out.length - done, noise.length - from));
      out.set(piece, done);
      done += piece.length;
    }
    return out;
  };
}

/** The noise as bf16 numbers near 0.02: their exponent is set, sign and mantissa are random. */
function bf16Noise(noise: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
  const halves = new Uint16Array(noise.slice().buffer);
  for (let i = 0; i < halves.length; i++) halves[i] = 0x3c80 | (halves[i]! & 0x803f);
  return new Uint8Array(halves.buffer);
}
