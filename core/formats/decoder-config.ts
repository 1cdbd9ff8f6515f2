/**
 * What decoders say of themselves in the same words: sizes, RoPE with its scaling, sliding windows. Two spellings are read: that of
 * transformers 5 (`rope_parameters`, `layer_types`, `dtype`) and the one before (`rope_theta`, `rope_scaling`, `torch_dtype`).
 */
import type { BaseWeights } from "./base-weights.ts";
import { isObject } from "./json-object.ts";
import { formatJson, ModelConfigReader, type ModelLabels, type ModelQuantization } from "./model-config.ts";

/** The sizes of a decoder; names are those of config.json in camelCase. */
export interface DecoderConfig extends ModelLabels {
  readonly hiddenSize: number;
  readonly numHiddenLayers: number;
  readonly numAttentionHeads: number;
  /** Each serves `numAttentionHeads / numKeyValueHeads` consecutive query heads. */
  readonly numKeyValueHeads: number;
  readonly headDim: number;
  readonly intermediateSize: number;
  readonly vocabSize: number;
  readonly rmsNormEps: number;
  /** Standard deviation of a new score head. */
  readonly initializerRange: number;
  /** What the weights were before quantization. */
  readonly dtype: string | undefined;
  readonly quantization: ModelQuantization | undefined;
  /** How the linears are stored, once it is known what the user chose; default: all in NF4. */
  readonly weights?: BaseWeights | undefined;
}

/** `rope_parameters` in config.json, `rope_scaling` before transformers 5. */
export type RopeScaling =
  | { readonly type: "default" }
  /** Every position divided by `factor`. */
  | { readonly type: "linear"; readonly factor: number }
  /** Llama 3.1: long wavelengths by `factor`, short ones not, those between in part. */
  | {
      readonly type: "llama3";
      readonly factor: number;
      readonly lowFreqFactor: number;
      readonly highFreqFactor: number;
      readonly originalMaxPositionEmbeddings: number;
    };

/** RoPE of a model, or of one kind of its layers. */
export interface RopeConfig {
  readonly ropeTheta: number;
  readonly ropeScaling: RopeScaling;
}

type Json = Readonly<Record<string, unknown>>;

/** Reads a decoder's config.json; problems are collected as `ModelConfigReader` does. */
export class DecoderConfigReader extends ModelConfigReader {
  /** @param headDim where the file gives none: a number, or by default hidden size over heads */
  decoder(headDim?: number): DecoderConfig {
    const hiddenSize = this.size("hidden_size");
    const numAttentionHeads = this.size("num_attention_heads");
    const given = (this.json["head_dim"] ?? undefined) !== undefined;
    const config: DecoderConfig = {
      hiddenSize,
      numHiddenLayers: this.size("num_hidden_layers"),
      numAttentionHeads,
      numKeyValueHeads: this.size("num_key_value_heads", numAttentionHeads),
      headDim: given ? this.size("head_dim") : (headDim ?? hiddenSize / numAttentionHeads),
      intermediateSize: this.size("intermediate_size"),
      vocabSize: this.size("vocab_size"),
      rmsNormEps: this.positive("rms_norm_eps", 1e-6),
      initializerRange: this.positive("initializer_range", 0.02),
      ...this.labels(),
      dtype: this.text("dtype") ?? this.text("torch_dtype"),
      quantization: this.quantization(),
    };
    if (this.problems.length === 0) this.checkSizes(config);
    return config;
  }

  /** Notes a field that has another value than the one that is supported; absent means that one. */
  only(key: string, supported: string | boolean): void {
    const value = this.json[key] ?? supported;
    if (value !== supported)
      this.problems.push(`${key} is ${formatJson(value)}, expected ${JSON.stringify(supported)}`);
  }

  /** `rope_parameters` (transformers 5), or `rope_theta` with `rope_scaling` (before). */
  rope(): RopeConfig {
    const where = (this.json["rope_parameters"] ?? undefined) === undefined ? "rope_scaling" : "rope_parameters";
    return this.ropeOf(where, this.json[where] ?? {}, this.json["rope_theta"] ?? 10_000);
  }

  /**
   * RoPE as an object tells it that stands elsewhere.
   * @param where its key, for messages
   * @param theta the base where the object has none
   */
  ropeOf(where: string, found: unknown, theta: unknown): RopeConfig {
    const parameters: Json = isObject(found) ? found : {};
    if (parameters !== found) this.problems.push(`${where} is ${formatJson(found)}, expected an object`);
    const field = (key: string): number => this.positiveOf(`${where}.${key}`, parameters[key]);
    const ropeTheta = this.positiveOf("rope_theta", parameters["rope_theta"] ?? theta);
    const type: unknown = parameters["rope_type"] ?? parameters["type"] ?? "default";
    switch (type) {
      case "default":
        return { ropeTheta, ropeScaling: { type } };
      case "linear":
        return { ropeTheta, ropeScaling: { type, factor: field("factor") } };
      case "llama3":
        return {
          ropeTheta,
          ropeScaling: {
            type,
            factor: field("factor"),
            lowFreqFactor: field("low_freq_factor"),
            highFreqFactor: field("high_freq_factor"),
            originalMaxPositionEmbeddings: field("original_max_position_embeddings"),
          },
        };
      default:
        this.problems.push(`RoPE scaling ${formatJson(type)} is not supported, expected default, linear or llama3`);
        return { ropeTheta, ropeScaling: { type: "default" } };
    }
  }

  /** For each layer `sliding_window` where it slides, 0 where it sees all: by `layer_types`, else by `slides`. */
  windows(layers: number, slides: (layer: number) => boolean): number[] {
    const none = Array.from({ length: layers }, () => 0);
    const window = this.json["sliding_window"] === undefined ? 4096 : this.json["sliding_window"];
    if (window === null) return none;
    if (typeof window !== "number" || !Number.isSafeInteger(window) || window < 1) {
      this.problems.push(`sliding_window is ${formatJson(window)}, expected a positive whole number or null`);
      return none;
    }
    const types = this.json["layer_types"] ?? undefined;
    if (types === undefined) return none.map((_, layer) => (slides(layer) ? window : 0));
    if (!Array.isArray(types) || types.length !== layers) {
      this.problems.push(`layer_types is ${formatJson(types)}, expected a list of ${layers}`);
      return none;
    }
    const unknown = types.find((type) => type !== "sliding_attention" && type !== "full_attention");
    if (unknown !== undefined)
      this.problems.push(`layer_types holds ${formatJson(unknown)}, expected "sliding_attention" or "full_attention"`);
    return types.map((type) => (type === "sliding_attention" ? window : 0));
  }

  /** What only several fields together can be wrong about. */
  private checkSizes({
    numAttentionHeads: heads,
    numKeyValueHeads: kvHeads,
    headDim,
    hiddenSize,
  }: DecoderConfig): void {
    // Rows of a 16-bit token table are whole words.
    if (hiddenSize % 2 !== 0) this.problems.push(`hidden_size is ${hiddenSize}, expected an even number`);
    if (heads % kvHeads !== 0)
      this.problems.push(`num_attention_heads ${heads} is no multiple of num_key_value_heads ${kvHeads}`);
    // Attention reads heads four numbers at a time.
    if (headDim % 4 !== 0 || headDim > 256)
      this.problems.push(`head_dim is ${headDim}, expected a multiple of 4 up to 256`);
  }

  private positiveOf(key: string, value: unknown): number {
    if (typeof value === "number" && Number.isFinite(value) && value > 0) return value;
    this.problems.push(
      value === undefined ? `${key} is missing` : `${key} is ${formatJson(value)}, expected a positive number`,
    );
    return 1;
  }
}
