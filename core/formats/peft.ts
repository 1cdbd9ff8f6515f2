/**
 * PEFT's adapter files as data: adapter_config.json, the names of the tensors, the model card. What is written here
 * loads in PEFT, and has the bytes that PEFT 0.21 would write for the same adapter.
 * Source: huggingface/peft, src/peft/config.py, tuners/lora/config.py, utils/save_and_load.py.
 */
import { ModelError } from "../errors.ts";
import { type Folder, pathIn, readText } from "./bytes.ts";
import { isObject, isTooDeep, TOO_DEEP } from "./json-object.ts";
import { formatPythonJson, parsePythonJson, pyFloat, type PythonJson } from "./python-json.ts";

/** Name of the file that says what an adapter is. */
export const ADAPTER_CONFIG_FILE = "adapter_config.json";
/** Name of the file that holds an adapter's tensors. */
export const ADAPTER_WEIGHTS_FILE = "adapter_model.safetensors";
export const MODEL_CARD_FILE = "README.md";
/** `__metadata__` of adapter_model.safetensors. */
export const ADAPTER_METADATA: Readonly<Record<string, string>> = { format: "pt" };

/** The version whose layout is written. */
const PEFT_VERSION = "0.21.0";
const KEY_PREFIX = "base_model.model.";

/** A LoRA adapter's options; names are those of adapter_config.json in camelCase. */
export interface PeftLoraConfig {
  /** Null where it was saved without one. */
  readonly baseModelNameOrPath: string | null;
  /** "SEQ_CLS" for a classifier; null where LoraConfig got none. */
  readonly taskType: string | null;
  readonly r: number;
  readonly loraAlpha: number;
  readonly loraDropout: number;
  readonly targetModules: string | readonly string[];
  readonly excludeModules: string | readonly string[] | null;
  readonly layersToTransform: number | readonly number[] | null;
  readonly layersPattern: string | readonly string[] | null;
  readonly modulesToSave: readonly string[] | null;
  /** Ranks of single modules, by the end of their name or a regular expression. */
  readonly rankPattern: Readonly<Record<string, number>>;
  readonly alphaPattern: Readonly<Record<string, number>>;
  /** Scale by alpha / sqrt(r), not alpha / r. */
  readonly useRslora: boolean;
  readonly useDora: boolean;
  /** True: A uniform (Kaiming, a = sqrt 5), B zero; "gaussian": A normal, B zero; false: B random too. */
  readonly initLoraWeights: boolean | string;
  readonly inferenceMode: boolean;
  readonly revision: string | null;
  /** Version that wrote the file; null in files before 0.18. */
  readonly peftVersion: string | null;
}

/** What {@link parseLoraConfig} gives back: the config, and keys it knows nothing of. */
export interface ParsedLoraConfig {
  readonly config: PeftLoraConfig;
  /** Without those that are null, false or empty, which no feature is. */
  readonly unknownKeys: readonly string[];
}

/** Values of a LoRA adapter for classification where nothing else is said. */
export const loraConfigDefaults: Omit<PeftLoraConfig, "baseModelNameOrPath" | "r" | "loraAlpha" | "targetModules"> = {
  taskType: "SEQ_CLS",
  loraDropout: 0,
  excludeModules: null,
  layersToTransform: null,
  layersPattern: null,
  modulesToSave: ["classifier", "score"],
  rankPattern: {},
  alphaPattern: {},
  useRslora: false,
  useDora: false,
  initLoraWeights: true,
  inferenceMode: true,
  revision: null,
  peftVersion: PEFT_VERSION,
};

/** Fields that are written with these values, and that change nothing about a trained adapter whatever they hold. */
const PASSIVE_FIELDS: { readonly [key: string]: PythonJson } = {
  auto_mapping: null,
  ensure_weight_tying: false,
  eva_config: null,
  megatron_config: null,
  megatron_core: "megatron.core",
  qalora_group_size: 16,
};

/** Fields that are written with these values, and that would make another adapter of it if they held others. */
const ACTIVE_FIELDS: { readonly [key: string]: PythonJson } = {
  alora_invocation_tokens: null,
  arrow_config: null,
  bias: "none",
  corda_config: null,
  fan_in_fan_out: false,
  kasa_config: null,
  layer_replication: null,
  loftq_config: {},
  lora_bias: false,
  lora_ga_config: null,
  monteclora_config: null,
  target_parameters: null,
  trainable_token_indices: null,
  use_bdlora: null,
  use_qalora: false,
  velora_config: null,
};

/** What PEFT adapts of these architectures where target_modules is null. */
const DEFAULT_TARGETS: readonly string[] = ["q_proj", "v_proj"];

/** Initialisations that leave the base weights as they are. */
const PLAIN_INITS = [true, false, "gaussian", "eva", "orthogonal"];

/** adapter_config.json as PEFT 0.21 writes it: keys sorted, two spaces of indent, no final newline. */
export function formatLoraConfig(config: PeftLoraConfig): string {
  return formatPythonJson({
    ...PASSIVE_FIELDS,
    ...ACTIVE_FIELDS,
    alpha_pattern: config.alphaPattern,
    base_model_name_or_path: config.baseModelNameOrPath,
    exclude_modules: config.excludeModules,
    inference_mode: config.inferenceMode,
    init_lora_weights: config.initLoraWeights,
    layers_pattern: config.layersPattern,
    layers_to_transform: config.layersToTransform,
    lora_alpha: config.loraAlpha,
    lora_dropout: pyFloat(config.loraDropout),
    modules_to_save: config.modulesToSave,
    peft_type: "LORA",
    peft_version: config.peftVersion,
    r: config.r,
    rank_pattern: config.rankPattern,
    revision: config.revision,
    target_modules: config.targetModules,
    task_type: config.taskType,
    use_dora: config.useDora,
    use_rslora: config.useRslora,
  });
}

/**
 * Reads an adapter_config.json of any PEFT version: fields it lacks take PEFT's defaults, keys that nobody knows are
 * named and passed over, and features that would change the result are refused.
 * @param options.dora whether DoRA adapters are accepted
 * @throws ModelError ADAPTER_CONFIG_INVALID that lists every problem
 */
export function parseLoraConfig(
  json: Readonly<Record<string, unknown>>,
  path: string,
  options: { readonly dora?: boolean } = {},
): ParsedLoraConfig {
  const problems: string[] = [];
  const seen = new Set(["peft_type", ...Object.keys(PASSIVE_FIELDS), ...Object.keys(ACTIVE_FIELDS)]);
  const required = <T>(key: string, expected: string, ok: (value: unknown) => boolean): T => {
    seen.add(key);
    const value = json[key];
    if (value === undefined) problems.push(`${key} is missing`);
    else if (!ok(value)) problems.push(`${key} is ${JSON.stringify(value)}, expected ${expected}`);
    return value as T;
  };
  // To PEFT, a field that is null is one that was never set.
  const field = <T>(key: string, fallback: T, expected: string, ok: (value: unknown) => boolean): T => {
    seen.add(key);
    return (json[key] ?? undefined) === undefined ? fallback : required(key, expected, ok);
  };
  if (json["peft_type"] !== "LORA") problems.push(`peft_type is ${show(json["peft_type"])}, expected "LORA"`);
  const names = (value: unknown) => isString(value) || isListOf(isString)(value);
  const d = loraConfigDefaults;
  const config: PeftLoraConfig = {
    baseModelNameOrPath: field("base_model_name_or_path", null, "a string or null", isString),
    taskType: field("task_type", null, "a string or null", isString),
    r: required("r", "a positive whole number", isSize),
    loraAlpha: required("lora_alpha", "a number", isNumber),
    loraDropout: field("lora_dropout", 0, "a number in 0..1", (v) => isNumber(v) && v >= 0 && v < 1),
    targetModules: field("target_modules", DEFAULT_TARGETS, "names or a regular expression", names),
    excludeModules: field("exclude_modules", d.excludeModules, "names or null", names),
    layersToTransform: field(
      "layers_to_transform",
      d.layersToTransform,
      "layer numbers or null",
      (value) => isIndex(value) || isListOf(isIndex)(value),
    ),
    layersPattern: field("layers_pattern", d.layersPattern, "names or null", names),
    modulesToSave: field("modules_to_save", null, "names or null", isListOf(isString)),
    rankPattern: field("rank_pattern", {}, "ranks by name", isMapOf(isSize)),
    alphaPattern: field("alpha_pattern", {}, "numbers by name", isMapOf(isNumber)),
    useRslora: field("use_rslora", false, "true or false", isBoolean),
    useDora: field("use_dora", false, options.dora === true ? "true or false" : "false", (value) =>
      options.dora === true ? isBoolean(value) : value === false,
    ),
    initLoraWeights: field("init_lora_weights", true, PLAIN_INITS.map((v) => JSON.stringify(v)).join(", "), (value) =>
      PLAIN_INITS.includes(value as boolean | string),
    ),
    inferenceMode: field("inference_mode", false, "true or false", isBoolean),
    revision: field("revision", d.revision, "a string or null", isString),
    peftVersion: field("peft_version", null, "a string or null", isString),
  };
  for (const [key, neutral] of Object.entries(ACTIVE_FIELDS)) {
    if (json[key] === undefined || isUnset(json[key]) || json[key] === neutral) continue;
    problems.push(
      `${key} is ${JSON.stringify(json[key])}, which is not supported (expected ${JSON.stringify(neutral)})`,
    );
  }
  if (problems.length > 0) {
    const list = problems.length === 1 ? ` ${problems[0]}` : `\n${problems.map((p) => `  - ${p}`).join("\n")}`;
    throw new ModelError("ADAPTER_CONFIG_INVALID", `${path}:${list}`, {
      hint: "Give a LoRA adapter that PEFT saved, with the features named above left off.",
    });
  }
  return { config, unknownKeys: Object.keys(json).filter((key) => !seen.has(key) && !isUnset(json[key])) };
}

/**
 * The adapter_config.json of a folder, of whatever kind of adapter.
 * @throws ModelError ADAPTER_CONFIG_INVALID
 */
export async function readAdapterConfig(folder: Folder): Promise<Readonly<Record<string, unknown>>> {
  const path = pathIn(folder, ADAPTER_CONFIG_FILE);
  const fail = (what: string, cause?: unknown): ModelError =>
    new ModelError("ADAPTER_CONFIG_INVALID", `${path}: ${what}`, {
      hint: `Give the folder of an adapter: ${ADAPTER_CONFIG_FILE} and ${ADAPTER_WEIGHTS_FILE}.`,
      cause,
    });
  const text = await readText(folder, ADAPTER_CONFIG_FILE).catch((error: unknown) => {
    throw fail(`cannot be read (${(error as Error).message})`, error);
  });
  if (text === undefined) throw fail("cannot be read (there is no such file)");
  if (isTooDeep(text)) throw fail(TOO_DEEP);
  let value: unknown;
  try {
    value = parsePythonJson(text);
  } catch (error) {
    throw fail(`is not valid JSON (${(error as Error).message})`, error);
  }
  if (!isObject(value)) throw fail("is not a JSON object");
  return value;
}

/** `base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight`; A is `[r, in]`, B is `[out, r]`. */
export function loraKey(module: string, part: "A" | "B"): string {
  return `${KEY_PREFIX}${module}.lora_${part}.weight`;
}

/** `base_model.model.score.weight`: a module trained whole, saved under its own name. */
export function savedModuleKey(module: string, parameter = "weight"): string {
  return `${KEY_PREFIX}${module}.${parameter}`;
}

/** The reverse of {@link loraKey}; undefined for any other key. */
export function parseLoraKey(key: string): { readonly module: string; readonly part: "A" | "B" } | undefined {
  const match = /^base_model\.model\.(.+)\.lora_([AB])\.weight$/.exec(key);
  return match === null ? undefined : { module: match[1]!, part: match[2] as "A" | "B" };
}

/**
 * README.md beside the adapter: PEFT's front matter, then `body`.
 * @param adapter what PEFT calls the kind of adapter in its tags, such as "lora"
 * @param body Markdown below the title
 */
export function formatModelCard(baseModel: string, adapter: string, body: string): string {
  return `---
base_model: ${yaml(baseModel)}
library_name: peft
tags:
- ${yaml(`base_model:adapter:${baseModel}`)}
- ${yaml(adapter)}
- transformers
---

# Adapter for ${baseModel}

${body.trim()}

### Framework versions

- PEFT ${PEFT_VERSION} (file format)
`;
}

/** Plain where YAML reads it as the same string, otherwise quoted. */
function yaml(text: string): string {
  return /^[A-Za-z/.][\w./:-]*[\w]$/.test(text) ? text : JSON.stringify(text);
}

function show(value: unknown): string {
  return value === undefined ? "missing" : JSON.stringify(value);
}

const isString = (value: unknown): value is string => typeof value === "string";
const isNumber = (value: unknown): value is number => typeof value === "number" && Number.isFinite(value);
const isBoolean = (value: unknown): value is boolean => typeof value === "boolean";
const isIndex = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0;
const isSize = (value: unknown): value is number => isIndex(value) && value > 0;
const isListOf = (ok: (item: unknown) => boolean) => (value: unknown) => Array.isArray(value) && value.every(ok);
const isMapOf = (ok: (item: unknown) => boolean) => (value: unknown) =>
  isObject(value) && Object.values(value).every(ok);

/** What PEFT takes for "not used". */
function isUnset(value: unknown): boolean {
  return value === null || value === false || (typeof value === "object" && Object.keys(value).length === 0);
}
