/**
 * Reads a model's config.json field by field and collects what is wrong with it, so that all problems are told at once.
 * What every architecture has in common is read here: sizes, token ids, labels, bitsandbytes' quantisation.
 */
import { ModelError } from "../errors.ts";
import { isObject } from "./json-object.ts";

type Json = Readonly<Record<string, unknown>>;

/** What `quantization_config` says of a bitsandbytes checkpoint. */
export interface ModelQuantization {
  readonly quantType: "nf4";
  readonly useDoubleQuant: boolean;
  readonly computeDtype: string | undefined;
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

  constructor(private readonly json: Json) {}

  /** A positive whole number. */
  size(key: string, fallback?: number): number {
    return this.number(key, fallback, "a positive whole number", (n) => Number.isSafeInteger(n) && n > 0);
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
    this.problems.push(`${key} is ${show(value)}, expected a token id`);
    return undefined;
  }

  text(key: string): string | undefined {
    const value = this.json[key];
    if (value === undefined || value === null || typeof value === "string") return value ?? undefined;
    this.problems.push(`${key} is ${show(value)}, expected a string`);
    return undefined;
  }

  /** `id2label`, else `num_labels`. */
  labels(): ModelLabels {
    const map = this.json["id2label"] ?? undefined;
    const count = this.json["num_labels"];
    if (map === undefined) return { numLabels: typeof count === "number" ? count : undefined, id2label: undefined };
    const names = isObject(map) ? Object.keys(map).map((_, i) => map[String(i)]) : [];
    if (names.length === 0 || names.some((name) => typeof name !== "string")) {
      this.problems.push(`id2label is ${show(map)}, expected names for the classes 0, 1, ...`);
    }
    return { numLabels: names.length, id2label: names as string[] };
  }

  /** `quantization_config`; undefined where the weights are not quantised. */
  quantization(): ModelQuantization | undefined {
    const value = this.json["quantization_config"];
    if (value === undefined || value === null) return undefined;
    if (!isObject(value)) {
      this.problems.push(`quantization_config is ${show(value)}, expected an object`);
      return undefined;
    }
    const expect = (key: string, ok: boolean, expected: string) => {
      if (!ok) this.problems.push(`quantization_config.${key} is ${show(value[key])}, expected ${expected}`);
    };
    const method = value["quant_method"];
    expect("quant_method", method === undefined || method === "bitsandbytes", '"bitsandbytes"');
    expect("load_in_4bit", value["load_in_4bit"] === true || value["_load_in_4bit"] === true, "true");
    expect("bnb_4bit_quant_type", value["bnb_4bit_quant_type"] === "nf4", '"nf4"');
    const computeDtype = value["bnb_4bit_compute_dtype"];
    return {
      quantType: "nf4",
      useDoubleQuant: value["bnb_4bit_use_double_quant"] === true,
      computeDtype: typeof computeDtype === "string" ? computeDtype : undefined,
    };
  }

  private number(key: string, fallback: number | undefined, expected: string, ok: (n: number) => boolean): number {
    const value = this.json[key];
    if (value === undefined && fallback !== undefined) return fallback;
    if (typeof value === "number" && ok(value)) return value;
    this.problems.push(value === undefined ? `${key} is missing` : `${key} is ${show(value)}, expected ${expected}`);
    return 1;
  }
}

/**
 * The error that tells a config.json's problems.
 * @param like a published model whose config.json is right
 */
export function invalidModelConfig(path: string, problems: readonly string[], like: string): ModelError {
  const list = problems.length === 1 ? ` ${problems[0]}` : `\n${problems.map((p) => `  - ${p}`).join("\n")}`;
  return new ModelError("MODEL_CONFIG_INVALID", `${path}:${list}`, {
    hint: `Compare the file with the config.json of ${like}.`,
  });
}

/** A value as messages show it. */
export function show(value: unknown): string {
  return value === undefined ? "missing" : JSON.stringify(value);
}
