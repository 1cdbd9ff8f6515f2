/**
 * Reads a model's config.json field by field and collects what is wrong with it, so that all problems are told at once.
 * What every architecture has in common is read here: sizes, token ids, labels, bitsandbytes' quantization.
 */
import { ModelError } from "../errors.ts";
import { isObject } from "./json-object.ts";
import type { QuantType } from "./nf4.ts";

const QUANTIZATION = "quantization_config";
const MAX_OF_ANY = 2 ** 31 - 1;
/** Far above what has been published. */
const MOST: Readonly<Record<string, number>> = { num_hidden_layers: 10_000, num_labels: 1_000_000 };

type Json = Readonly<Record<string, unknown>>;

/** What `quantization_config` says of a bitsandbytes checkpoint. */
export interface ModelQuantization {
  readonly quantType: QuantType;
  readonly useDoubleQuant: boolean;
  readonly computeDtype: string | undefined;
  /** Modules that stayed in 16 bits, as `llm_int8_skip_modules` names them. */
  readonly skipModules: readonly string[];
}

/** What config.json says of the classes. */
export interface ModelLabels {
  /** Undefined in a base checkpoint that has no labels yet. */
  readonly numLabels: number | undefined;
  /** Label names by class index. */
  readonly id2label: readonly string[] | undefined;
}

/** Reads fields and notes what is wrong; a wrong field reads as 1, so that one problem makes no others. */
export class ModelConfigReader {
  /** What was wrong so far; authors add theirs. */
  readonly problems: string[] = [];

  constructor(protected readonly json: Json) {}

  /** A positive whole number, no larger than anything of its kind: what is made for each layer has to end. */
  size(key: string, fallback?: number): number {
    const most = Object.hasOwn(MOST, key) ? MOST[key]! : MAX_OF_ANY;
    const value = this.json[key];
    const large = Number.isSafeInteger(value) && (value as number) > most;
    const expected = large ? `at most ${most}` : "a positive whole number";
    return this.number(key, fallback, expected, (n) => Number.isSafeInteger(n) && n > 0 && n <= most);
  }

  positive(key: string, fallback?: number): number {
    return this.number(key, fallback, "a positive number", (n) => Number.isFinite(n) && n > 0);
  }

  /** A token id; the first of a list. */
  token(key: string): number | undefined {
    const value = this.json[key];
    if (value === undefined || value === null) return undefined;
    const id: unknown = Array.isArray(value) ? value[0] : value;
    if (Number.isSafeInteger(id) && (id as number) >= 0) return id as number;
    this.problems.push(`${key} is ${formatJson(value)}, expected a token id`);
    return undefined;
  }

  text(key: string): string | undefined {
    const value = this.json[key];
    if (value === undefined || value === null || typeof value === "string") return value ?? undefined;
    this.problems.push(`${key} is ${formatJson(value)}, expected a string`);
    return undefined;
  }

  /** `id2label`, else `num_labels`. */
  labels(): ModelLabels {
    const map = this.json["id2label"] ?? undefined;
    const count = this.json["num_labels"];
    if (map === undefined) {
      const known = count !== undefined && count !== null;
      return { numLabels: known ? this.size("num_labels") : undefined, id2label: undefined };
    }
    const names = isObject(map) ? Object.keys(map).map((_, i) => map[String(i)]) : [];
    if (names.length === 0 || names.some((name) => typeof name !== "string")) {
      this.problems.push(`id2label is ${formatJson(map)}, expected names for the classes 0, 1, ...`);
    }
    return { numLabels: names.length, id2label: names as string[] };
  }

  /** `quantization_config`; undefined where the weights are not quantized. */
  quantization(): ModelQuantization | undefined {
    const value = this.json["quantization_config"];
    if (value === undefined || value === null) return undefined;
    if (!isObject(value)) {
      this.problems.push(`quantization_config is ${formatJson(value)}, expected an object`);
      return undefined;
    }
    const expect = (key: string, ok: boolean, expected: string): boolean => {
      if (!ok) this.problems.push(`${QUANTIZATION}.${key} is ${formatJson(value[key])}, expected ${expected}`);
      return ok;
    };
    const method = value["quant_method"] ?? undefined;
    // The keys below are bitsandbytes' own: another method has none of them.
    if (expect("quant_method", method === undefined || method === "bitsandbytes", '"bitsandbytes"')) {
      expect("load_in_4bit", value["load_in_4bit"] === true || value["_load_in_4bit"] === true, "true");
      const type = value["bnb_4bit_quant_type"] ?? "fp4";
      expect("bnb_4bit_quant_type", type === "nf4" || type === "fp4", '"nf4" or "fp4"');
    }
    const computeDtype = value["bnb_4bit_compute_dtype"];
    const skipped = value["llm_int8_skip_modules"] ?? [];
    const names = Array.isArray(skipped) ? skipped.filter((name) => typeof name === "string") : [];
    const listed = Array.isArray(skipped) && names.length === skipped.length;
    expect("llm_int8_skip_modules", listed, "a list of names");
    return {
      // transformers' default.
      quantType: value["bnb_4bit_quant_type"] === "nf4" ? "nf4" : "fp4",
      useDoubleQuant: value["bnb_4bit_use_double_quant"] === true,
      computeDtype: typeof computeDtype === "string" ? computeDtype : undefined,
      skipModules: names,
    };
  }

  private number(key: string, fallback: number | undefined, expected: string, ok: (n: number) => boolean): number {
    const value = this.json[key];
    if (value === undefined && fallback !== undefined) return fallback;
    if (typeof value === "number" && ok(value)) return value;
    this.problems.push(
      value === undefined ? `${key} is missing` : `${key} is ${formatJson(value)}, expected ${expected}`,
    );
    return 1;
  }
}

/**
 * The error that tells a config.json's problems.
 * @param like a published model whose config.json is right
 */
export function invalidModelConfig(path: string, problems: readonly string[], like: string): ModelError {
  const list = problems.length === 1 ? ` ${problems[0]}` : `\n${problems.map((p) => `  - ${p}`).join("\n")}`;
  const quantized = problems.every((problem) => problem.startsWith(QUANTIZATION));
  return new ModelError("MODEL_CONFIG_INVALID", `${path}:${list}`, {
    hint: quantized ? CHECKPOINT_HINT : `Compare the file with the config.json of ${like}.`,
  });
}

/** What to do with a base in a form that is not read. */
export const CHECKPOINT_HINT =
  "Name a checkpoint that bitsandbytes quantized to 4 bits, such as unsloth/gemma-2-9b-it-bnb-4bit, or one in 16 bits " +
  "(--model to train; --base-model beside an adapter).";

/** Lists and objects are shown so deep, and so many entries of them. */
const SHOWN_DEPTH = 4;
const SHOWN_ENTRIES = 40;

/**
 * A value of JSON as messages show it: as JSON, but for what would never end.
 * @example formatJson({ a: [1, "b"] }); // {"a":[1,"b"]}
 */
export function formatJson(value: unknown, depth = 0): string {
  if (value === undefined) return "missing";
  if (typeof value !== "object" || value === null) return JSON.stringify(value);
  const isList = Array.isArray(value);
  const [open, close] = isList ? ["[", "]"] : ["{", "}"];
  if (depth === SHOWN_DEPTH) return `${open}...${close}`;
  const entries = Object.entries(value).slice(0, SHOWN_ENTRIES);
  const shown = entries.map(
    ([key, item]) => `${isList ? "" : `${JSON.stringify(key)}:`}${formatJson(item, depth + 1)}`,
  );
  if (Object.keys(value).length > SHOWN_ENTRIES) shown.push("...");
  return `${open}${shown.join(",")}${close}`;
}
