/**
 * config.json of Llama, Mistral and Qwen2, which differ in biases and sliding windows only.
 * Source: huggingface/transformers, models/{llama,mistral,qwen2}/configuration_*.py.
 */
import {
  type DecoderConfig,
  DecoderConfigReader,
  formatJson,
  invalidModelConfig,
  ModelError,
  type RopeConfig,
} from "qlora/core";

/** Values of model_type that are read. */
export const MODEL_TYPES = ["llama", "mistral", "qwen2"] as const;
export type LlamaModelType = (typeof MODEL_TYPES)[number];

/** The architecture; names are those of config.json in camelCase. */
export interface LlamaConfig extends DecoderConfig, RopeConfig {
  readonly modelType: LlamaModelType;
  /** For each layer: a query at i sees keys j with `i - j < window`; 0 sees all. */
  readonly windows: readonly number[];
  /** Last parts of the names of the linears that have a bias. */
  readonly biased: readonly string[];
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
  const read = new DecoderConfigReader(json);
  read.only("hidden_act", "silu");
  const rope = read.rope();
  const decoder = read.decoder();
  const config: LlamaConfig = {
    modelType,
    ...decoder,
    ...rope,
    windows: windows(read, json, modelType, decoder.numHiddenLayers),
    biased: biased(json, modelType),
  };
  if (read.problems.length > 0) throw invalidModelConfig(path, read.problems, LIKE[modelType]);
  return config;
}

/** Qwen2 has biases whatever its config says; the others where it says so. */
function biased(json: Json, modelType: LlamaModelType): string[] {
  if (modelType === "qwen2") return ["q_proj", "k_proj", "v_proj"];
  return [
    ...(json["attention_bias"] === true ? ["q_proj", "k_proj", "v_proj", "o_proj"] : []),
    ...(json["mlp_bias"] === true ? ["gate_proj", "up_proj", "down_proj"] : []),
  ];
}

function windows(read: DecoderConfigReader, json: Json, modelType: LlamaModelType, layers: number): number[] {
  if (modelType === "mistral") return read.windows(layers, () => true);
  if (modelType === "llama" || json["use_sliding_window"] !== true) return Array.from({ length: layers }, () => 0);
  const first = typeof json["max_window_layers"] === "number" ? json["max_window_layers"] : 28;
  return read.windows(layers, (layer) => layer >= first);
}
