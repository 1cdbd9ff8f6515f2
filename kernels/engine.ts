import { accumulate } from "../core/compute/accumulate.ts";
import type { Engine } from "../core/compute/engine.ts";
import { crossEntropy, crossEntropySoft } from "./cross-entropy/index.ts";
import { gradNorm } from "./grad-norm/index.ts";
import { denseLinear } from "./lora-linear/dense.ts";
import { countNonFinite } from "./non-finite/index.ts";
import { measureCeilings } from "./roofline/index.ts";

/** The kernels that the training loop itself uses. */
export const engine: Engine = {
  accumulate,
  crossEntropy,
  crossEntropySoft,
  denseLinear,
  gradNorm,
  countNonFinite,
  measureCeilings,
};
