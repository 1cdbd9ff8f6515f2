/** adapter_config.json of (IA)^3. Source: huggingface/peft, tuners/ia3/config.py. */
import { formatPythonJson, ModelError } from "qlora/core";

/** The fields that say anything; a string is a regular expression over full names. */
interface Ia3Config {
  readonly targetModules: string | readonly string[];
  readonly feedforwardModules: string | readonly string[];
  readonly excludeModules?: string | readonly string[] | undefined;
}

/** As PEFT 0.21 writes it. */
export function formatIa3Config(config: Ia3Config, baseModel: string): string {
  return formatPythonJson({
    auto_mapping: null,
    base_model_name_or_path: baseModel,
    exclude_modules: config.excludeModules ?? null,
    fan_in_fan_out: false,
    feedforward_modules: config.feedforwardModules,
    inference_mode: true,
    init_ia3_weights: true,
    modules_to_save: ["classifier", "score"],
    peft_type: "IA3",
    peft_version: "0.21.0",
    revision: null,
    target_modules: config.targetModules,
    task_type: "SEQ_CLS",
  });
}

const isNames = (value: unknown): value is string | string[] =>
  typeof value === "string" || (Array.isArray(value) && value.every((name) => typeof name === "string"));

/**
 * Reads the fields of a parsed adapter_config.json.
 * @throws ModelError ADAPTER_CONFIG_INVALID that lists every problem
 */
export function parseIa3Config(json: Readonly<Record<string, unknown>>) {
  const problems: string[] = [];
  const names = (key: string, required: boolean): string | string[] | undefined => {
    const value = json[key] ?? undefined;
    if (isNames(value)) return value;
    if (value !== undefined || required) {
      problems.push(`${key} is ${JSON.stringify(value) ?? "missing"}, expected names or a regular expression`);
    }
    return undefined;
  };
  const config = {
    targetModules: names("target_modules", true) ?? [],
    feedforwardModules: names("feedforward_modules", false) ?? [],
    excludeModules: names("exclude_modules", false),
  };
  if (json["peft_type"] !== "IA3") problems.push(`peft_type is ${JSON.stringify(json["peft_type"])}, expected "IA3"`);
  if (json["fan_in_fan_out"] === true) problems.push("fan_in_fan_out is true, which no linear of these models is");
  if (problems.length > 0) {
    throw new ModelError("ADAPTER_CONFIG_INVALID", `adapter_config.json: ${problems.join("; ")}`, {
      hint: "Give an (IA)^3 adapter that PEFT saved.",
    });
  }
  return config;
}
