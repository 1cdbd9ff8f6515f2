/** Options of `qlora bench`. */
import { defineOptions, option, type InferOptions } from "../core/options/options.ts";
import { samples, sampleTokens } from "../runtime/config/data-options.ts";
import { placementOptions } from "../runtime/config/placement-options.ts";
import { SHAPE_TYPE } from "./shapes.ts";

const count = "number.integer >= 1";

export const benchOptions = defineOptions({
  shape: option(SHAPE_TYPE, {
    default: "tiny",
    help: "tiny is the bundled checkpoint; the others have random weights of the published shape",
  }),
  layers: option(count, { optional: true, help: "only so many layers (default: all)" }),
  checkpoint: option("string", { optional: true, help: "load this folder instead of random weights" }),
  tokens: option(sampleTokens, { default: 1024, help: "tokens of each sample" }),
  lengths: option("string", { optional: true, help: "JSON file with a list of token counts, used in turn" }),
  batch: option(samples, { default: 2, help: "samples of one optimizer step" }),
  tokenBudget: option(count, { optional: true, help: "most tokens of a micro-batch (default: the whole step)" }),
  rank: option(count, { default: 64, help: "rank of the LoRA on q, k, v, o and gate" }),
  dropout: option("0 <= number < 1", { default: 0.05, help: "LoRA dropout" }),
  memory: option("'lean' | 'auto' | 'fast'", {
    optional: true,
    help: "choose what is left open of the next three and tokenBudget by the GPU's memory (default: no block checkpointed, the table on the device, weights packed)",
  }),
  gradientCheckpointing: option("'none' | 'block' | number.integer >= 1", {
    optional: true,
    help: "block runs every block again in backward, a number so many of the first",
  }),
  ...placementOptions.shape,
  steps: option(count, { default: 8, help: "steps to time" }),
  warmup: option("number.integer >= 0", {
    default: 2,
    help: "steps before, not timed; with 0 the first step is timed too, in which kernels are compiled",
  }),
  absmax: option("number > 0", { default: 0.05, help: "size of random weights" }),
  normScale: option("number > 0", {
    default: 1,
    help: "1 + w of the norms that end a sublayer, to drive the residual stream up",
  }),
  profile: option("boolean", { default: false, help: "time every kernel in one more step" }),
  dtype: option("'nf4' | 'bf16'", {
    default: "nf4",
    help: "how the random weights are stored; those in bf16 are quantized as they are loaded",
  }),
  writeCheckpoint: option("string", { optional: true, help: "write the random weights to this folder and stop" }),
});

export type BenchCommandOptions = InferOptions<typeof benchOptions>;
