import type { Engine } from "../core/compute/engine.ts";
import { accumulate } from "./add/index.ts";
import { measureCeilings } from "./ceilings/index.ts";
import { crossEntropy, crossEntropySoft } from "./cross-entropy/index.ts";
import { denseLinear } from "./dense-linear/index.ts";
import { gradNorm } from "./grad-norm/index.ts";
import { countNonFinite } from "./non-finite/index.ts";

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
