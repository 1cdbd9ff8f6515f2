/** Phi-3's RoPE: `longrope`, which turns short texts and long ones by frequencies of their own. Source: transformers, modeling_rope_utils.py. */
import { type DecoderConfigReader, formatJson, isObject } from "qlora/core";
import { ropeInverseFrequencies } from "qlora/kernels";

/** How positions are turned. */
export interface Phi3Rope {
  readonly ropeTheta: number;
  /** Columns of each head that are turned, from its first: `partial_rotary_factor` of them. */
  readonly rotaryDim: number;
  /** What each frequency is divided by in texts of up to `maxPositions` tokens; undefined without scaling. */
  readonly shortFactor: readonly number[] | undefined;
  /** Multiplies cosine and sine. */
  readonly attentionFactor: number;
  /** Longest text that these frequencies are for: longer ones have others. Infinity without scaling. */
  readonly maxPositions: number;
}

/** [rotaryDim/2]: formed in f64, rounded to f32. */
export function phi3Frequencies({ ropeTheta, rotaryDim, shortFactor }: Phi3Rope): Float32Array<ArrayBuffer> {
  const plain = ropeInverseFrequencies(rotaryDim, ropeTheta);
  if (shortFactor === undefined) return plain;
  return plain.map((_, j) => 1 / (shortFactor[j]! * ropeTheta ** ((2 * j) / rotaryDim)));
}

type Json = Readonly<Record<string, unknown>>;

/** Reads `rope_parameters` (transformers 5), or `rope_theta`, `partial_rotary_factor` and `rope_scaling` (before). */
export function readPhi3Rope(read: DecoderConfigReader, json: Json, headDim: number): Phi3Rope {
  const where = (json["rope_parameters"] ?? undefined) === undefined ? "rope_scaling" : "rope_parameters";
  const found = json[where] ?? {};
  const parameters: Json = isObject(found) ? found : {};
  if (parameters !== found) read.problems.push(`${where} is ${formatJson(found)}, expected an object`);
  const number = (key: string, value: unknown, ok: (n: number) => boolean, expected: string): number => {
    if (typeof value === "number" && Number.isFinite(value) && ok(value)) return value;
    read.problems.push(`${key} is ${formatJson(value)}, expected ${expected}`);
    return 1;
  };
  const positive = (key: string, value: unknown): number => number(key, value, (n) => n > 0, "a positive number");
  const share = parameters["partial_rotary_factor"] ?? json["partial_rotary_factor"] ?? 1;
  const partial = number("partial_rotary_factor", share, (n) => n > 0 && n <= 1, "a number of up to 1");
  const rotaryDim = Math.trunc(headDim * partial);
  if (rotaryDim % 2 !== 0)
    read.problems.push(`partial_rotary_factor turns ${rotaryDim} columns of a head, expected pairs`);
  const ropeTheta = positive("rope_theta", parameters["rope_theta"] ?? json["rope_theta"] ?? 10_000);
  const plain = { ropeTheta, rotaryDim, shortFactor: undefined, attentionFactor: 1, maxPositions: Infinity };
  const type: unknown = parameters["rope_type"] ?? parameters["type"] ?? "default";
  if (type === "default") return plain;
  // "su" is what the first files called it.
  if (type !== "longrope" && type !== "su") {
    read.problems.push(`RoPE scaling ${formatJson(type)} is not supported, expected default or longrope`);
    return plain;
  }
  const original = parameters["original_max_position_embeddings"] ?? json["original_max_position_embeddings"];
  const maxPositions = positive("original_max_position_embeddings", original);
  const stretch = parameters["factor"] ?? Number(json["max_position_embeddings"]) / maxPositions;
  const factor = positive("max_position_embeddings over original_max_position_embeddings", stretch);
  const given = parameters["attention_factor"] ?? undefined;
  const own = factor <= 1 ? 1 : Math.sqrt(1 + Math.log(factor) / Math.log(maxPositions));
  const attentionFactor = given === undefined ? own : positive(`${where}.attention_factor`, given);
  const shortFactor = parameters["short_factor"];
  const listed =
    Array.isArray(shortFactor) &&
    shortFactor.length === rotaryDim / 2 &&
    shortFactor.every((value) => typeof value === "number" && value > 0);
  if (!listed)
    read.problems.push(
      `${where}.short_factor is ${formatJson(shortFactor)}, expected ${rotaryDim / 2} positive numbers`,
    );
  return { ropeTheta, rotaryDim, shortFactor: listed ? shortFactor : undefined, attentionFactor, maxPositions };
}
