/** config.json of Qwen3's dense models. Source: huggingface/transformers, models/qwen3/configuration_qwen3.py. */
import {
  type DecoderConfig,
  DecoderConfigReader,
  formatJson,
  invalidModelConfig,
  ModelError,
  type RopeConfig,
} from "qlora/core";

/** The architecture; names are those of config.json in camelCase. */
export interface Qwen3Config extends DecoderConfig, RopeConfig {
  /** For each layer: a query at i sees keys j with `i - j < window`; 0 sees all. */
  readonly windows: readonly number[];
  /** Whether q, k, v and o have biases; published models have none. */
  readonly attentionBias: boolean;
}

/**
 * Reads Qwen3's config.json.
 * @param path the file, for messages
 * @throws ModelError MODEL_TYPE_UNSUPPORTED, or MODEL_CONFIG_INVALID that lists every problem
 */
export function parseQwen3Config(json: Readonly<Record<string, unknown>>, path: string): Qwen3Config {
  if (json["model_type"] !== "qwen3") {
    throw new ModelError(
      "MODEL_TYPE_UNSUPPORTED",
      `${path}: model_type is ${formatJson(json["model_type"])}, expected "qwen3"`,
      { hint: "Give a dense Qwen3 checkpoint (0.6B to 32B), or a model plugin made for this architecture." },
    );
  }
  const read = new DecoderConfigReader(json);
  read.only("hidden_act", "silu");
  const rope = read.rope();
  const decoder = read.decoder(128);
  const layers = decoder.numHiddenLayers;
  const first = typeof json["max_window_layers"] === "number" ? json["max_window_layers"] : 28;
  const slides = json["use_sliding_window"] === true;
  const config: Qwen3Config = {
    ...decoder,
    ...rope,
    windows: slides ? read.windows(layers, (layer) => layer >= first) : Array.from({ length: layers }, () => 0),
    attentionBias: json["attention_bias"] === true,
  };
  if (read.problems.length > 0) throw invalidModelConfig(path, read.problems, "Qwen/Qwen3-8B");
  return config;
}
