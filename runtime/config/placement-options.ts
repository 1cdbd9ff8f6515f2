/** Where a model's weights lie, as options of the commands that take no whole config. */
import { defineOptions, option } from "../../core/options/options.ts";

export const placementOptions = defineOptions({
  embeddings: option("'device' | 'host'", { optional: true, help: "where the token table lies" }),
  keepDequantized: option("boolean", { optional: true, help: "keep f16 copies of the linears for forward passes" }),
});
