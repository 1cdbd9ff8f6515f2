import type { Batch } from "../../core/compute/batch.ts";
import type { AdaptedLinear, Nf4Weight } from "../../core/compute/linear.ts";
import type { Tape } from "../../core/compute/tape.ts";
import type { Tensor } from "../../core/device/tensor.ts";
import { addBias } from "../add/index.ts";
import type { LoraLinearPart } from "./attrs.ts";
import { loraLinears } from "./index.ts";

/**
 * Linears that share their input, each with its adapter: x [N,in] -> y_i [N,out_i] in the tier's operand type. Those with a
 * low-rank branch or none run as one op; an adapter with a forward of its own runs by itself.
 */
export function adaptedLinears(
  tape: Tape,
  x: Tensor,
  linears: readonly AdaptedLinear[],
  batch: Batch,
  options: { readonly training: boolean; readonly seed: number },
): Tensor[] {
  const biased = (y: Tensor, { bias }: Nf4Weight): Tensor => {
    if (bias === undefined) return y;
    const sum = addBias(tape, y, bias);
    tape.release(y);
    return sum;
  };
  const settings = { rowKeys: batch.rowKeys, ...options };
  const parts: LoraLinearPart[] = linears
    .filter((l) => l.forward === undefined)
    .map(({ weight, branch }) => ({ weight, branch }));
  const shared = parts.length === 0 ? [] : [...loraLinears(tape, x, parts, settings)];
  return linears.map(({ weight, forward }) => {
    if (forward === undefined) return biased(shared.shift()!, weight);
    const base = (input: Tensor): Tensor => biased(loraLinears(tape, input, [{ weight }], settings)[0]!, weight);
    return forward(tape, x, base, batch, options);
  });
}
