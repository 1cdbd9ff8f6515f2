/** What the projection is run with, on every tier. */
import type { LowRankBranch, FrozenWeight } from "../../core/compute/linear.ts";
import type { Tensor } from "../../core/device/tensor.ts";

/** One linear of a projection. */
export interface LoraLinearPart {
  readonly weight: FrozenWeight;
  readonly branch?: LowRankBranch | undefined;
}

/** How a projection is run. */
export interface LoraLinearOptions {
  /** [N] u32 (`batch.rowKeys`): names a token to the dropout generator, whatever batch it lies in. */
  readonly rowKeys: Tensor;
  /** Dropout is on in training only. */
  readonly training: boolean;
  readonly seed: number;
}

/** What the op is run with. */
export interface LoraLinearAttrs extends LoraLinearOptions {
  readonly parts: readonly LoraLinearPart[];
}
