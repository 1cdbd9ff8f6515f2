/** Options that every model reads its weights by, under the names of transformers' BitsAndBytesConfig. */
import type { QuantType } from "../formats/nf4.ts";
import { type Option, option } from "../options/options.ts";

/**
 * Spread into a model's options; `baseWeights` reads them.
 * @example const options = defineOptions({ checkpoint: option("string", { help: "folder" }), ...quantizationShape });
 */
export const quantizationShape = {
  loadIn4bit: option("boolean", {
    optional: true,
    help: "quantize a checkpoint in 16 or 32 bits to 4 bits as it is loaded (default: true); false keeps its weights as they are, for plain LoRA",
  }),
  bnb4bitQuantType: option("'nf4' | 'fp4'", { optional: true, help: "what it is quantized to (default: nf4)" }),
  bnb4bitUseDoubleQuant: option("boolean", {
    optional: true,
    help: "quantize the blocks' absmax once more, to 8 bits (default: true)",
  }),
  bnb4bitBlocksize: option("64 | 128 | 256 | 512 | 1024 | 2048 | 4096", {
    optional: true,
    help: "weights that share one absmax (default: 64)",
  }),
  llmInt8SkipModules: option("string[]", {
    optional: true,
    help: "linears that stay as they are, by name or the end of it (default: none; lm_head and score always do)",
  }),
} satisfies Readonly<Record<string, Option>>;

/** What `--quantization` and requests call the same in one word. */
export const quantizationNames = "'none' | 'nf4' | 'fp4'";

/** The options that such a word stands for. */
export function quantizationInput(name: QuantType | "none" | undefined): Readonly<Record<string, unknown>> {
  if (name === undefined) return {};
  return name === "none" ? { loadIn4bit: false } : { loadIn4bit: true, bnb4bitQuantType: name };
}
