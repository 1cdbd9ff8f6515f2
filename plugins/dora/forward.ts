import {
  type AdaptedLinear,
  type LowRankBranch,
  type FrozenWeight,
  type Parameter,
  type Tape,
  type Tensor,
} from "qlora/core";
import { addBias, addScaled, dropout, loraLinears, scaleColumns } from "qlora/kernels";
import { weightNorm } from "./weight-norm.ts";

/** What DoRA trains of one linear. */
export interface DoraBranch extends LowRankBranch {
  /** [out] f32: the length of each row. */
  readonly magnitude: Parameter;
}

/**
 * y = c * (W x + scale B A x) with c = magnitude / ||W + scale B A|| by rows, and the linear's bias. With dropout, x' =
 * dropout(x), only what DoRA adds sees x': y = W x + (c - 1) W x' + c scale B A x'.
 */
export function doraForward(weight: FrozenWeight, branch: DoraBranch): NonNullable<AdaptedLinear["forward"]> {
  const { magnitude, site, dropout: p } = branch;
  // The branch's own dropout is off: W and A see the same input here.
  const part = { weight, branch: { ...branch, dropout: 0 } };
  const scaled = (tape: Tape, x: Tensor, settings: Parameters<typeof loraLinears>[3]): Tensor => {
    const norms = tape.alloc([weight.outFeatures], "f32", `norms of ${weight.name}`);
    weightNorm(tape.gpu, weight, branch, norms);
    const z = loraLinears(tape, x, [part], settings)[0]!;
    const y = scaleColumns(tape, z, magnitude, norms);
    tape.release(z);
    return y;
  };
  return (tape, x, base, { rowKeys }, { training, seed }) => {
    const settings = { rowKeys, training, seed };
    const dropped = training ? dropout(tape, x, { rowKeys, site, seed, p }) : x;
    if (dropped === x) {
      const y = scaled(tape, x, settings);
      if (weight.bias === undefined) return y;
      const sum = addBias(tape, y, weight.bias);
      tape.release(y);
      return sum;
    }
    // W x - W x' is one product: W (x - x').
    const rest = addScaled(tape, x, dropped, -1);
    const kept = base(rest);
    tape.release(rest);
    const y = scaled(tape, dropped, settings);
    tape.release(dropped);
    const sum = addScaled(tape, kept, y, 1);
    tape.release(kept, y);
    return sum;
  };
}
