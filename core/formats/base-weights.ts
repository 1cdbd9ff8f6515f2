/**
 * How the linears of a base are stored, as config.json says, and what becomes of those in 16 bits as they are loaded. Known
 * before anybody fetches the weights.
 */
import { ModelError } from "../errors.ts";
import type { ModelQuantization } from "./model-config.ts";
import type { BlockQuantization, QuantType } from "./nf4.ts";

/** What the user asks for, under the names of transformers' BitsAndBytesConfig. */
export interface QuantizationChoice {
  /** False: a base in 16 bits stays as it is. Default true. */
  readonly loadIn4bit?: boolean | undefined;
  /** Default nf4. */
  readonly bnb4bitQuantType?: QuantType | undefined;
  /** Default true. */
  readonly bnb4bitUseDoubleQuant?: boolean | undefined;
  /** Default 64. */
  readonly bnb4bitBlocksize?: number | undefined;
  /** Linears that stay in 16 bits. */
  readonly llmInt8SkipModules?: readonly string[] | undefined;
}

/** What a weight in 16 or 32 bits is quantized to. */
export interface LoadQuantization extends Required<BlockQuantization> {
  readonly quantType: QuantType;
  readonly blockSize: number;
  readonly doubleQuant: boolean;
}

/** How a checkpoint stores a linear. */
export type StoredDType = "NF4" | "FP4" | "BF16" | "F16" | "F32";

/** The linears of a base. */
export interface BaseWeights {
  /** How the checkpoint stores a linear, by its name. */
  stored(linear: string): StoredDType;
  /** What it is quantized to as it is loaded; undefined where it stays as it is stored. */
  quantized(linear: string): LoadQuantization | undefined;
}

const FLOATS: Readonly<Record<string, StoredDType>> = { bfloat16: "BF16", float16: "F16", float32: "F32" };

/**
 * The linears of a base, from its config.json and what the user chose.
 * @param path of config.json, for messages
 * @throws ModelError QUANTIZATION_CONFLICT where a checkpoint that is quantized is asked to be so in another way
 * @example
 * const quantization = new ModelConfigReader({ quantization_config: { load_in_4bit: true, llm_int8_skip_modules: ["up_proj"] } }).quantization();
 * const { stored } = baseWeights({ quantization, dtype: "bfloat16" }, {}, "config.json");
 * stored("model.layers.0.mlp.up_proj"); // "BF16"
 */
export function baseWeights(
  {
    quantization,
    dtype = "bfloat16",
  }: { readonly quantization: ModelQuantization | undefined; readonly dtype?: string | undefined },
  choice: QuantizationChoice,
  path: string,
): BaseWeights {
  const floats = FLOATS[dtype] ?? "BF16";
  if (quantization !== undefined) {
    checkChoice(quantization, choice, path);
    const packed = quantization.quantType === "nf4" ? "NF4" : "FP4";
    const { skipModules } = quantization;
    return { stored: (name) => (isSkipped(skipModules, name) ? floats : packed), quantized: () => undefined };
  }
  const { loadIn4bit = true, bnb4bitQuantType: quantType = "nf4", bnb4bitBlocksize: blockSize = 64 } = choice;
  const { bnb4bitUseDoubleQuant: doubleQuant = true, llmInt8SkipModules: skipped = [] } = choice;
  const settings = loadIn4bit ? { quantType, blockSize, doubleQuant } : undefined;
  return { stored: () => floats, quantized: (name) => (isSkipped(skipped, name) ? undefined : settings) };
}

/** A base that is wholly in NF4, whatever its config.json says. */
export const nf4Weights: BaseWeights = { stored: () => "NF4", quantized: () => undefined };

/** @throws ModelError */
function checkChoice(quantization: ModelQuantization, choice: QuantizationChoice, path: string): void {
  const refuse = (option: string, value: unknown, is: string): never => {
    throw new ModelError("QUANTIZATION_CONFLICT", `${path}: the weights are ${is}, but ${option} is ${String(value)}`, {
      hint: `Leave ${option} out, or name a checkpoint in 16 bits: those are quantized as they are loaded.`,
    });
  };
  const { quantType, useDoubleQuant } = quantization;
  const { loadIn4bit, bnb4bitQuantType: type, bnb4bitUseDoubleQuant: double } = choice;
  if (loadIn4bit === false) refuse("loadIn4bit", loadIn4bit, `quantized to ${quantType} already`);
  if (type !== undefined && type !== quantType) refuse("bnb4bitQuantType", type, `quantized to ${quantType} already`);
  if (double !== undefined && double !== useDoubleQuant) {
    refuse("bnb4bitUseDoubleQuant", double, `quantized ${useDoubleQuant ? "with" : "without"} double quantization`);
  }
  if (choice.bnb4bitBlocksize !== undefined) refuse("bnb4bitBlocksize", choice.bnb4bitBlocksize, "quantized already");
  if (choice.llmInt8SkipModules !== undefined) {
    refuse("llmInt8SkipModules", choice.llmInt8SkipModules.join(", "), "quantized already");
  }
}

/** As every version of transformers matches a module: itself, one inside it, or one that ends so from a dot on. */
export const isSkipped = (modules: readonly string[], name: string): boolean =>
  modules.some(
    (module) => module !== "" && (name === module || name.startsWith(`${module}.`) || name.endsWith(`.${module}`)),
  );
