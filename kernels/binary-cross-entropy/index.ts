import type { Tape } from "../../core/compute/tape.ts";
import { expectTensor, type Tensor } from "../../core/device/tensor.ts";
import { elementwiseLoss } from "../elementwise-loss.ts";
import { SIGMOID } from "../sigmoid.ts";
import backward from "./backward.wgsl" with { type: "text" };
import forward from "./forward.wgsl" with { type: "text" };

const op = elementwiseLoss("binary-cross-entropy", { forward: SIGMOID + forward, backward: SIGMOID + backward });

/**
 * Binary cross entropy of each sample, label by label: logits [B,L] f32, targets [B,L] f32 -> losses [B] f32, the mean over its
 * L labels (`torch.nn.BCEWithLogitsLoss`, whose mean over a batch is the mean of these). The targets get no gradient.
 */
export function binaryCrossEntropy(tape: Tape, logits: Tensor, targets: Tensor): Tensor {
  expectTensor(logits, [-1, -1], "f32");
  expectTensor(targets, logits.shape, "f32");
  return tape.run(op, [logits], { targets })[0]!;
}
