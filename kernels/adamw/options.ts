import { option, type Option } from "../../core/options/options.ts";

/** Options that the AdamW optimizers share: transformers' names and defaults. */
export const adamWOptionShape = {
  adamBeta1: option("0 <= number < 1", { default: 0.9, help: "decay of the first moment" }),
  adamBeta2: option("0 <= number < 1", { default: 0.999, help: "decay of the second moment" }),
  adamEpsilon: option("number > 0", { default: 1e-8, help: "added to the root of the second moment" }),
  weightDecay: option("number >= 0", { default: 0, help: "decoupled weight decay, times the learning rate" }),
} satisfies Readonly<Record<string, Option>>;
