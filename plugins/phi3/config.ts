/** config.json of Phi-3, Phi-3.5 and Phi-4. Source: huggingface/transformers, models/phi3/configuration_phi3.py. */
import { type DecoderConfig, DecoderConfigReader, formatJson, invalidModelConfig, ModelError } from "qlora/core";
import { type Phi3Rope, readPhi3Rope } from "./rope.ts";

/** The architecture; names are those of config.json in camelCase. */
export interface Phi3Config extends DecoderConfig {
  /** For each layer: a query at i sees keys j with `i - j < window`; 0 sees all. */
  readonly windows: readonly number[];
  readonly rope: Phi3Rope;
}

/**
 * Reads Phi-3's config.json.
 * @param path the file, for messages
 * @throws ModelError MODEL_TYPE_UNSUPPORTED, or MODEL_CONFIG_INVALID that lists every problem
 */
export function parsePhi3Config(json: Readonly<Record<string, unknown>>, path: string): Phi3Config {
  if (json["model_type"] !== "phi3") {
    throw new ModelError(
      "MODEL_TYPE_UNSUPPORTED",
      `${path}: model_type is ${formatJson(json["model_type"])}, expected "phi3"`,
      {
        hint: "Give a Phi-3, Phi-3.5 or Phi-4 checkpoint (mini, medium, 14B), or a model plugin made for this architecture.",
      },
    );
  }
  const read = new DecoderConfigReader(json);
  read.only("hidden_act", "silu");
  read.only("attention_bias", false);
  for (const key of ["resid_pdrop", "embd_pdrop"]) {
    if ((json[key] ?? 0) !== 0) read.problems.push(`${key} is ${formatJson(json[key])}, expected 0`);
  }
  const decoder = read.decoder();
  const sees = (json["sliding_window"] ?? null) === null;
  const config: Phi3Config = {
    ...decoder,
    windows: sees
      ? Array.from({ length: decoder.numHiddenLayers }, () => 0)
      : read.windows(decoder.numHiddenLayers, () => true),
    rope: readPhi3Rope(read, json, decoder.headDim),
  };
  if (read.problems.length > 0) throw invalidModelConfig(path, read.problems, "microsoft/Phi-3.5-mini-instruct");
  return config;
}
