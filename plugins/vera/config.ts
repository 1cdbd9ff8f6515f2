/** adapter_config.json of VeRA. Source: huggingface/peft, tuners/vera/config.py. */
import { formatPythonJson, ModelError, pyFloat } from "qlora/core";

/** The fields that say anything; names are PEFT's in camelCase. */
export interface VeraConfig {
  readonly r: number;
  readonly dInitial: number;
  readonly layersToTransform: readonly number[] | undefined;
  readonly projectionPrngKey: number;
  readonly saveProjection: boolean;
  readonly targetModules: string | readonly string[];
  readonly veraDropout: number;
}

/** As PEFT 0.21 writes it. */
export function formatVeraConfig(config: VeraConfig, baseModel: string): string {
  return formatPythonJson({
    auto_mapping: null,
    base_model_name_or_path: baseModel,
    bias: "none",
    d_initial: pyFloat(config.dInitial),
    fan_in_fan_out: false,
    inference_mode: true,
    init_weights: true,
    layers_pattern: null,
    layers_to_transform: config.layersToTransform ?? null,
    modules_to_save: ["classifier", "score"],
    peft_type: "VERA",
    peft_version: "0.21.0",
    projection_prng_key: config.projectionPrngKey,
    r: config.r,
    revision: null,
    save_projection: config.saveProjection,
    target_modules: config.targetModules,
    task_type: "SEQ_CLS",
    vera_dropout: pyFloat(config.veraDropout),
  });
}

const isNames = (value: unknown): value is string | string[] =>
  typeof value === "string" || (Array.isArray(value) && value.every((name) => typeof name === "string"));
const isCount = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0;
const isNumber = (value: unknown): value is number => typeof value === "number" && Number.isFinite(value);

/**
 * Reads the fields of a parsed adapter_config.json; what it lacks has PEFT's defaults.
 * @throws ModelError ADAPTER_CONFIG_INVALID that lists every problem
 */
export function parseVeraConfig(json: Readonly<Record<string, unknown>>): VeraConfig {
  const problems: string[] = [];
  const field = <T>(key: string, fallback: T, expected: string, ok: (value: unknown) => boolean): T => {
    const value = json[key] ?? undefined;
    if (value === undefined) return fallback;
    if (!ok(value)) problems.push(`${key} is ${JSON.stringify(value)}, expected ${expected}`);
    return value as T;
  };
  const layers = field<number | readonly number[] | undefined>(
    "layers_to_transform",
    undefined,
    "layer numbers",
    (value) => isCount(value) || (Array.isArray(value) && value.every(isCount)),
  );
  const config: VeraConfig = {
    r: field("r", 256, "a whole number from 1", (value) => isCount(value) && value > 0),
    dInitial: field("d_initial", 0.1, "a number", isNumber),
    layersToTransform: typeof layers === "number" ? [layers] : layers,
    projectionPrngKey: field("projection_prng_key", 0, "a whole number", isCount),
    saveProjection: field("save_projection", true, "true or false", (value) => typeof value === "boolean"),
    targetModules: field("target_modules", ["q_proj", "v_proj"], "names or a regular expression", isNames),
    veraDropout: field("vera_dropout", 0, "a share", (value) => isNumber(value) && value >= 0 && value < 1),
  };
  const neutral = { bias: "none", fan_in_fan_out: false, layers_pattern: null };
  for (const [key, value] of Object.entries(neutral)) {
    const got = json[key] ?? value;
    if (got !== value) problems.push(`${key} is ${JSON.stringify(got)}, expected ${JSON.stringify(value)}`);
  }
  if (problems.length > 0) {
    throw new ModelError("ADAPTER_CONFIG_INVALID", `adapter_config.json: ${problems.join("; ")}`, {
      hint: "Give a VeRA adapter that PEFT saved, with the features named above left off.",
    });
  }
  return config;
}
