import type { Tape } from "../../core/compute/tape.ts";
import { expectTensor, type Tensor } from "../../core/device/tensor.ts";
import { elementwiseLoss } from "../elementwise-loss.ts";
import backward from "./backward.wgsl" with { type: "text" };
import forward from "./forward.wgsl" with { type: "text" };

const op = elementwiseLoss("mean-squared-error", { forward, backward });

/**
 * Mean squared error of each sample: outputs [B,L] f32, targets [B,L] f32 -> losses [B] f32, the mean over its L outputs
 * (`torch.nn.MSELoss`, whose mean over a batch is the mean of these). The targets get no gradient.
 */
export function meanSquaredError(tape: Tape, outputs: Tensor, targets: Tensor): Tensor {
  expectTensor(outputs, [-1, -1], "f32");
  expectTensor(targets, outputs.shape, "f32");
  return tape.run(op, [outputs], { targets })[0]!;
}
