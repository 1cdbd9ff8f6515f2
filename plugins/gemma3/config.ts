/**
 * config.json of Gemma-3: of a text model, or of one that also sees images, whose `text_config` is read. Source:
 * huggingface/transformers, models/gemma3/configuration_gemma3.py.
 */
import {
  currentKey,
  type DecoderConfig,
  DecoderConfigReader,
  formatJson,
  invalidModelConfig,
  isObject,
  ModelError,
  type RopeConfig,
} from "qlora/core";

/** Values of model_type that are read. */
export const MODEL_TYPES = ["gemma3_text", "gemma3"] as const;

/** The architecture; names are those of config.json in camelCase. */
export interface Gemma3Config extends DecoderConfig {
  /** The module that holds the layers, in transformers' classifier of this model_type. */
  readonly prefix: "model" | "model.language_model";
  /** For each layer: a query at i sees keys j with `i - j < window`; 0 sees all. */
  readonly windows: readonly number[];
  /** RoPE of the layers that see everything. */
  readonly rope: RopeConfig;
  /** RoPE of the layers that slide. */
  readonly localRope: RopeConfig;
  /** Scores become `cap * tanh(scores / cap)`; null, as published, is without. */
  readonly attnLogitSoftcapping: number | null;
  /** Scores are scaled by its inverse square root; never derived from `headDim`. */
  readonly queryPreAttnScalar: number;
}

type Json = Readonly<Record<string, unknown>>;

/** What transformers takes where a file says nothing: `text_config` of the published 4B to 27B leaves most out. */
const DEFAULTS = {
  vocab_size: 262_208,
  num_attention_heads: 8,
  num_key_value_heads: 4,
  head_dim: 256,
  query_pre_attn_scalar: 256,
  sliding_window: 4096,
} as const;

/** Every so many layers, one sees everything. */
const PATTERN = 6;

/**
 * Reads Gemma-3's config.json.
 * @param path the file, for messages
 * @throws ModelError MODEL_TYPE_UNSUPPORTED, or MODEL_CONFIG_INVALID that lists every problem
 */
export function parseGemma3Config(json: Json, path: string): Gemma3Config {
  const modelType = MODEL_TYPES.find((type) => type === json["model_type"]);
  if (modelType === undefined) {
    throw new ModelError(
      "MODEL_TYPE_UNSUPPORTED",
      `${path}: model_type is ${formatJson(json["model_type"])}, expected one of ${MODEL_TYPES.join(", ")}`,
      { hint: "Give a Gemma-3 checkpoint (270M to 27B), or a model plugin made for this architecture." },
    );
  }
  const { fields, problems } = textFields(json, modelType);
  const read = new DecoderConfigReader(fields);
  read.problems.push(...problems);
  read.only("hidden_activation", "gelu_pytorch_tanh");
  read.only("use_bidirectional_attention", false);
  read.only("attention_bias", false);
  const decoder = read.decoder();
  const { quantization } = decoder;
  // null would leave no layer that slides, and none of the base that those turn by.
  read.size("sliding_window");
  const pattern = fields["sliding_window_pattern"] ?? fields["_sliding_window_pattern"] ?? PATTERN;
  const every = typeof pattern === "number" && pattern >= 1 ? pattern : PATTERN;
  const config: Gemma3Config = {
    ...decoder,
    // Names of modules are of the checkpoint's day, as those of its tensors are.
    quantization: quantization && { ...quantization, skipModules: quantization.skipModules.map(currentKey) },
    prefix: modelType === "gemma3" ? "model.language_model" : "model",
    windows: read.windows(decoder.numHiddenLayers, (layer) => (layer + 1) % every !== 0),
    ...ropes(read, fields),
    attnLogitSoftcapping:
      (fields["attn_logit_softcapping"] ?? null) === null ? null : read.positive("attn_logit_softcapping"),
    queryPreAttnScalar: read.positive("query_pre_attn_scalar"),
  };
  if (read.problems.length > 0) throw invalidModelConfig(path, read.problems, "google/gemma-3-4b-it");
  return config;
}

/** The text model's fields, with what stands beside them in a model that also sees images. */
function textFields(json: Json, modelType: string): { readonly fields: Json; readonly problems: readonly string[] } {
  if (modelType === "gemma3_text") return { fields: { ...DEFAULTS, ...json }, problems: [] };
  const text = json["text_config"];
  const around = ["quantization_config", "id2label", "num_labels", "dtype", "torch_dtype"].filter((key) => key in json);
  return {
    fields: {
      ...DEFAULTS,
      ...(isObject(text) ? text : {}),
      ...Object.fromEntries(around.map((key) => [key, json[key]])),
    },
    problems: isObject(text) ? [] : [`text_config is ${formatJson(text)}, expected an object`],
  };
}

/** By kind of layer in `rope_parameters` (transformers 5); before, `rope_theta` with `rope_scaling`, and `rope_local_base_freq`. */
function ropes(read: DecoderConfigReader, json: Json): Pick<Gemma3Config, "rope" | "localRope"> {
  const parameters = json["rope_parameters"] ?? undefined;
  const kinds = isObject(parameters) ? parameters : {};
  const [global, local] = [1_000_000, 10_000];
  if ("full_attention" in kinds || "sliding_attention" in kinds) {
    return {
      rope: read.ropeOf("rope_parameters.full_attention", kinds["full_attention"] ?? {}, global),
      localRope: read.ropeOf("rope_parameters.sliding_attention", kinds["sliding_attention"] ?? {}, local),
    };
  }
  return {
    rope: read.ropeOf("rope_scaling", parameters ?? json["rope_scaling"] ?? {}, json["rope_theta"] ?? global),
    localRope: read.ropeOf("rope_local_base_freq", {}, json["rope_local_base_freq"] ?? local),
  };
}
