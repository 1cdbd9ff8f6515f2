/** Options of `qlora plan` beside those of the config. */
import { defineOptions, type InferOptions, option } from "../core/options/options.ts";
import { SHAPE_TYPE } from "./shapes.ts";

export const planOptions = defineOptions({
  shape: option(SHAPE_TYPE, {
    optional: true,
    help: "plan a published shape, with no checkpoint at hand",
  }),
  layers: option("number.integer >= 1", { optional: true, help: "only so many layers of the shape" }),
  lengths: option("string", {
    optional: true,
    help: "JSON file with a list of token counts, used in turn (default: all as long as data.maxLength)",
  }),
  on: option("'this' | 'nvidia'", {
    default: "this",
    help: "plan for this machine's GPU, or for an NVIDIA card with tensor cores; give the latter a --memory-budget",
  }),
});

export type PlanCommandOptions = InferOptions<typeof planOptions>;
