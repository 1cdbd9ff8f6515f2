/**
 * config.json of Llama, Mistral and Qwen2, which differ in biases and sliding windows only. Two spellings are read: the
 * one of transformers 5 (`rope_parameters`, `layer_types`, `dtype`) and the one before (`rope_theta`, `rope_scaling`).
 * Source: huggingface/transformers, models/{llama,mistral,qwen2}/configuration_*.py.
 */
import {
  invalidModelConfig,
  ModelConfigReader,
  ModelError,
  type ModelLabels,
  type ModelQuantization,
  formatJson,
} from "qlora/core";
import type { RopeScaling } from "./rope.ts";

/** Values of model_type that are read. */
export const MODEL_TYPES = ["llama", "mistral", "qwen2"] as const;
export type LlamaModelType = (typeof MODEL_TYPES)[number];

/** The architecture; names are those of config.json in camelCase. */
export interface LlamaConfig extends ModelLabels {
  readonly modelType: LlamaModelType;
  readonly hiddenSize: number;
  readonly numHiddenLayers: number;
  readonly numAttentionHeads: number;
  /** Each serves `numAttentionHeads / numKeyValueHeads` consecutive query heads. */
  readonly numKeyValueHeads: number;
  readonly headDim: number;
  readonly intermediateSize: number;
  readonly vocabSize: number;
  readonly rmsNormEps: number;
  readonly ropeTheta: number;
  readonly ropeScaling: RopeScaling;
  /** For each layer: a query at i sees keys j with `i - j < window`; 0 sees all. */
  readonly windows: readonly number[];
  /** Last parts of the names of the linears that have a bias. */
  readonly biased: readonly string[];
  /** Standard deviation of a new score head. */
  readonly initializerRange: number;
  /** What the weights were before quantization. */
  readonly dtype: string | undefined;
  readonly quantization: ModelQuantization | undefined;
}

type Json = Readonly<Record<string, unknown>>;

const LIKE: Readonly<Record<LlamaModelType, string>> = {
  llama: "meta-llama/Llama-3.1-8B",
  mistral: "mistralai/Mistral-7B-v0.3",
  qwen2: "Qwen/Qwen2.5-7B",
};

/**
 * Reads a config.json of these architectures.
 * @param path the file, for messages
 * @throws ModelError MODEL_TYPE_UNSUPPORTED, or MODEL_CONFIG_INVALID that lists every problem
 */
export function parseLlamaConfig(json: Json, path: string): LlamaConfig {
  const modelType = MODEL_TYPES.find((type) => type === json["model_type"]);
  if (modelType === undefined) {
    throw new ModelError(
      "MODEL_TYPE_UNSUPPORTED",
      `${path}: model_type is ${formatJson(json["model_type"])}, expected one of ${MODEL_TYPES.join(", ")}`,
      { hint: "Give a Llama, Mistral or Qwen2 checkpoint, or a model plugin made for this architecture." },
    );
  }
  const read = new ModelConfigReader(json);
  const { problems } = read;
  const hiddenSize = read.size("hidden_size");
  const numAttentionHeads = read.size("num_attention_heads");
  const numHiddenLayers = read.size("num_hidden_layers");
  const headDim = json["head_dim"] === null ? undefined : json["head_dim"];
  const config: LlamaConfig = {
    modelType,
    hiddenSize,
    numHiddenLayers,
    numAttentionHeads,
    numKeyValueHeads: read.size("num_key_value_heads", numAttentionHeads),
    headDim: headDim === undefined ? hiddenSize / numAttentionHeads : read.size("head_dim"),
    intermediateSize: read.size("intermediate_size"),
    vocabSize: read.size("vocab_size"),
    rmsNormEps: read.positive("rms_norm_eps", 1e-6),
    ...rope(json, problems),
    windows: windows(json, modelType, numHiddenLayers, problems),
    biased: biased(json, modelType),
    initializerRange: read.positive("initializer_range", 0.02),
    ...read.labels(),
    dtype: read.text("dtype") ?? read.text("torch_dtype"),
    quantization: read.quantization(),
  };
  const activation = json["hidden_act"] ?? "silu";
  if (activation !== "silu") problems.push(`hidden_act is ${formatJson(activation)}, expected "silu"`);
  if (problems.length === 0) checkTogether(config, problems);
  if (problems.length > 0) throw invalidModelConfig(path, problems, LIKE[modelType]);
  return config;
}

/** What only several fields together can be wrong about. */
function checkTogether(config: LlamaConfig, problems: string[]): void {
  const { numAttentionHeads: heads, numKeyValueHeads: kvHeads, headDim, hiddenSize } = config;
  // Rows of a 16-bit token table are whole words.
  if (hiddenSize % 2 !== 0) problems.push(`hidden_size is ${hiddenSize}, expected an even number`);
  if (heads % kvHeads !== 0)
    problems.push(`num_attention_heads ${heads} is no multiple of num_key_value_heads ${kvHeads}`);
  if (headDim % 4 !== 0 || headDim > 256) problems.push(`head_dim is ${headDim}, expected a multiple of 4 up to 256`);
}

/** Qwen2 has biases whatever its config says; the others where it says so. */
function biased(json: Json, modelType: LlamaModelType): string[] {
  if (modelType === "qwen2") return ["q_proj", "k_proj", "v_proj"];
  return [
    ...(json["attention_bias"] === true ? ["q_proj", "k_proj", "v_proj", "o_proj"] : []),
    ...(json["mlp_bias"] === true ? ["gate_proj", "up_proj", "down_proj"] : []),
  ];
}

/** Published checkpoints in NF4, by architecture. */
export const IN_NF4: Readonly<Record<LlamaModelType, string>> = {
  llama: "unsloth/Meta-Llama-3.1-8B-bnb-4bit",
  mistral: "unsloth/mistral-7b-v0.3-bnb-4bit",
  qwen2: "unsloth/Qwen2.5-7B-bnb-4bit",
};

function windows(json: Json, modelType: LlamaModelType, layers: number, problems: string[]): number[] {
  const none = Array.from({ length: layers }, () => 0);
  if (modelType === "llama" || (modelType === "qwen2" && json["use_sliding_window"] !== true)) return none;
  const window = json["sliding_window"] === undefined ? 4096 : json["sliding_window"];
  if (window === null) return none;
  if (typeof window !== "number" || !Number.isSafeInteger(window) || window < 1) {
    problems.push(`sliding_window is ${formatJson(window)}, expected a positive whole number or null`);
    return none;
  }
  if (modelType === "mistral") return none.map(() => window);
  const types = json["layer_types"] ?? undefined;
  if (types === undefined) {
    const first = typeof json["max_window_layers"] === "number" ? json["max_window_layers"] : 28;
    return none.map((_, layer) => (layer >= first ? window : 0));
  }
  if (Array.isArray(types) && types.length === layers) {
    return types.map((type) => (type === "sliding_attention" ? window : 0));
  }
  problems.push(`layer_types is ${formatJson(types)}, expected a list of ${layers}`);
  return none;
}

/** `rope_parameters` (transformers 5), or `rope_theta` with `rope_scaling` (before). */
function rope(json: Json, problems: string[]): Pick<LlamaConfig, "ropeTheta" | "ropeScaling"> {
  const where = (json["rope_parameters"] ?? undefined) === undefined ? "rope_scaling" : "rope_parameters";
  const found = json[where] ?? {};
  const parameters: Json = typeof found === "object" && !Array.isArray(found) ? (found as Json) : {};
  if (parameters !== found) problems.push(`${where} is ${formatJson(found)}, expected an object`);
  const positive = (key: string, value: unknown): number => {
    if (typeof value === "number" && Number.isFinite(value) && value > 0) return value;
    problems.push(`${key} is ${formatJson(value)}, expected a positive number`);
    return 1;
  };
  const field = (key: string): number => positive(`${where}.${key}`, parameters[key]);
  const ropeTheta = positive("rope_theta", parameters["rope_theta"] ?? json["rope_theta"] ?? 10_000);
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
      problems.push(`RoPE scaling ${formatJson(type)} is not supported, expected default, linear or llama3`);
      return { ropeTheta, ropeScaling: { type: "default" } };
  }
}
