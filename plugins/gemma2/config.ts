/**
 * Gemma-2's config.json as typed options. Two spellings are read: the one of transformers 5 (`layer_types`,
 * `rope_parameters`, `dtype`) and the one of 2024 (`rope_theta`, `torch_dtype`, `hidden_act`, no `layer_types`).
 * Source: huggingface/transformers, models/gemma2/configuration_gemma2.py.
 */
import {
  type BaseWeights,
  invalidModelConfig,
  isObject,
  ModelConfigReader,
  ModelError,
  type ModelQuantization,
  formatJson,
} from "qlora/core";

/** How far a layer looks back: `slidingWindow` tokens, or all of them. */
export type Gemma2LayerType = "sliding_attention" | "full_attention";

/** The architecture; names are those of config.json in camelCase. */
export interface Gemma2Config {
  readonly modelType: "gemma2";
  readonly hiddenSize: number;
  readonly numHiddenLayers: number;
  readonly numAttentionHeads: number;
  /** Each serves `numAttentionHeads / numKeyValueHeads` consecutive query heads. */
  readonly numKeyValueHeads: number;
  readonly headDim: number;
  readonly intermediateSize: number;
  readonly vocabSize: number;
  readonly maxPositionEmbeddings: number;
  readonly rmsNormEps: number;
  readonly ropeTheta: number;
  /** A query at i sees keys j with `i - j < slidingWindow`, in the sliding layers. */
  readonly slidingWindow: number;
  /** One for each layer. */
  readonly layerTypes: readonly Gemma2LayerType[];
  /** Scores become `cap * tanh(scores / cap)`; null switches that off. */
  readonly attnLogitSoftcapping: number | null;
  /** Scores are scaled by its inverse square root; never derived from `headDim`. */
  readonly queryPreAttnScalar: number;
  readonly hiddenActivation: "gelu_pytorch_tanh";
  /** Standard deviation of a new score head. */
  readonly initializerRange: number;
  readonly padTokenId: number | undefined;
  readonly bosTokenId: number | undefined;
  /** The first one where the file lists several. */
  readonly eosTokenId: number | undefined;
  /** What the weights were before quantization, such as "bfloat16". */
  readonly dtype: string | undefined;
  /** Undefined in a base checkpoint that has no labels yet. */
  readonly numLabels: number | undefined;
  /** Label names by class index. */
  readonly id2label: readonly string[] | undefined;
  /** Undefined where the weights are not quantized. */
  readonly quantization: ModelQuantization | undefined;
  /** How the linears are stored, once it is known what the user chose; default: all in NF4. */
  readonly weights?: BaseWeights | undefined;
}

type Json = Readonly<Record<string, unknown>>;

/**
 * Reads Gemma-2's config.json.
 * @param json the parsed file
 * @param path the file, for messages
 * @throws ModelError MODEL_CONFIG_INVALID that lists every problem
 */
export function parseGemma2Config(json: Json, path: string): Gemma2Config {
  if (json["model_type"] !== "gemma2") {
    throw new ModelError(
      "MODEL_TYPE_UNSUPPORTED",
      `${path}: model_type is ${formatJson(json["model_type"])}, expected "gemma2"`,
      { hint: "Give a Gemma-2 checkpoint (2B, 9B or 27B), or a model plugin made for this architecture." },
    );
  }
  const read = new ModelConfigReader(json);
  const { problems } = read;
  const numHiddenLayers = read.size("num_hidden_layers");
  const config: Gemma2Config = {
    modelType: "gemma2",
    hiddenSize: read.size("hidden_size"),
    numHiddenLayers,
    numAttentionHeads: read.size("num_attention_heads"),
    numKeyValueHeads: read.size("num_key_value_heads"),
    headDim: read.size("head_dim"),
    intermediateSize: read.size("intermediate_size"),
    vocabSize: read.size("vocab_size"),
    maxPositionEmbeddings: read.size("max_position_embeddings", 8192),
    rmsNormEps: read.positive("rms_norm_eps"),
    ropeTheta: ropeTheta(json, problems),
    slidingWindow: read.size("sliding_window"),
    layerTypes: layerTypes(json["layer_types"], numHiddenLayers, problems),
    // Absent means Gemma-2's own 50, as in transformers; null means off.
    attnLogitSoftcapping: json["attn_logit_softcapping"] === null ? null : read.positive("attn_logit_softcapping", 50),
    queryPreAttnScalar: read.positive("query_pre_attn_scalar"),
    hiddenActivation: activation(json, problems),
    initializerRange: read.positive("initializer_range", 0.02),
    padTokenId: read.token("pad_token_id"),
    bosTokenId: read.token("bos_token_id"),
    eosTokenId: read.token("eos_token_id"),
    dtype: read.text("dtype") ?? read.text("torch_dtype"),
    ...read.labels(),
    quantization: read.quantization(),
  };
  checkTogether(config, json, problems);
  for (const key of ["attention_bias", "use_bidirectional_attention"]) {
    if (json[key] === true) problems.push(`${key} is true, which is not supported`);
  }
  if (problems.length > 0) throw invalidModelConfig(path, problems, "google/gemma-2-9b-it");
  return config;
}

/** What only several fields together can be wrong about; silent where one of them is wrong by itself. */
function checkTogether(config: Gemma2Config, json: Json, problems: string[]): void {
  const known = (...keys: string[]) => keys.every((key) => typeof json[key] === "number");
  const { numAttentionHeads: heads, numKeyValueHeads: kvHeads, layerTypes: types, numHiddenLayers: layers } = config;
  if (known("num_attention_heads", "num_key_value_heads") && heads % kvHeads !== 0) {
    problems.push(`num_attention_heads ${heads} is no multiple of num_key_value_heads ${kvHeads}`);
  }
  // Rows of a 16-bit token table are whole words.
  if (known("hidden_size") && config.hiddenSize % 2 !== 0) {
    problems.push(`hidden_size is ${config.hiddenSize}, expected an even number`);
  }
  // Attention reads heads four numbers at a time.
  if (known("head_dim") && (config.headDim % 4 !== 0 || config.headDim > 256)) {
    problems.push(`head_dim is ${config.headDim}, expected a multiple of 4 up to 256`);
  }
  if (known("num_hidden_layers") && Array.isArray(json["layer_types"]) && types.length !== layers) {
    problems.push(`layer_types has ${types.length} entries for ${layers} layers`);
  }
}

/** `rope_parameters` (transformers 5) or `rope_theta` with `rope_scaling` (before); no scaling is supported. */
function ropeTheta(json: Json, problems: string[]): number {
  const parameters = json["rope_parameters"] ?? undefined;
  if (parameters !== undefined && !isObject(parameters)) {
    problems.push(`rope_parameters is ${formatJson(parameters)}, expected an object`);
    return 1;
  }
  const scaling = json["rope_scaling"] ?? undefined;
  const scaled = [parameters, scaling].map((part) => (isObject(part) ? (part["rope_type"] ?? part["type"]) : part));
  for (const type of scaled) {
    if (type !== undefined && type !== "default") problems.push(`RoPE scaling ${formatJson(type)} is not supported`);
  }
  const [where, theta] =
    parameters === undefined
      ? (["rope_theta", json["rope_theta"]] as const)
      : (["rope_parameters.rope_theta", parameters["rope_theta"] ?? json["rope_theta"]] as const);
  if (typeof theta === "number" && Number.isFinite(theta) && theta > 0) return theta;
  problems.push(
    theta === undefined ? `${where} is missing` : `${where} is ${formatJson(theta)}, expected a positive number`,
  );
  return 1;
}

/** Without `layer_types`, every other layer slides, beginning with the first. */
function layerTypes(value: unknown, layers: number, problems: string[]): Gemma2LayerType[] {
  if (value === undefined || value === null) {
    return Array.from({ length: layers }, (_, i) => (i % 2 === 0 ? "sliding_attention" : "full_attention"));
  }
  if (!Array.isArray(value)) {
    problems.push(`layer_types is ${formatJson(value)}, expected a list`);
    return [];
  }
  const unknown = value.find((type) => type !== "sliding_attention" && type !== "full_attention");
  if (unknown !== undefined) {
    problems.push(`layer_types holds ${formatJson(unknown)}, expected "sliding_attention" or "full_attention"`);
  }
  return value as Gemma2LayerType[];
}

/** transformers reads `hidden_activation` alone; early files say "gelu" in `hidden_act` and mean its tanh form. */
function activation(json: Json, problems: string[]): "gelu_pytorch_tanh" {
  const key =
    json["hidden_activation"] === undefined || json["hidden_activation"] === null ? "hidden_act" : "hidden_activation";
  const value = json[key] ?? "gelu_pytorch_tanh";
  if (value !== "gelu_pytorch_tanh" && !(key === "hidden_act" && value === "gelu")) {
    problems.push(`${key} is ${formatJson(value)}, expected "gelu_pytorch_tanh"`);
  }
  return "gelu_pytorch_tanh";
}
