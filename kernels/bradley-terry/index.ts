import type { Op, Tape } from "../../core/compute/tape.ts";
import { gridFor } from "../../core/device/kernel.ts";
import { expectTensor, type Tensor } from "../../core/device/tensor.ts";
import { SIGMOID } from "../sigmoid.ts";
import backwardCode from "./backward.wgsl" with { type: "text" };
import forwardCode from "./forward.wgsl" with { type: "text" };

interface BradleyTerryAttrs {
  /** [P] f32. */
  readonly margins: Tensor;
  /** Weight of the square of a pair's sum. */
  readonly center: number;
}

const UNIFORMS = { pairs: "u32", center: "f32" } as const;

const op: Op<BradleyTerryAttrs> = {
  name: "bradleyTerry",
  forward(tape, [scores], { margins, center }) {
    const pairs = margins.shape[0]!;
    const losses = tape.alloc([pairs], "f32", "losses");
    const kernel = tape.gpu.kernel("bradley-terry/forward", () => ({
      code: SIGMOID + forwardCode,
      bindings: ["read", "read", "write"],
      uniforms: UNIFORMS,
    }));
    tape.gpu.dispatch(kernel, [scores!, margins, losses], { pairs, center }, gridFor(pairs / 256));
    return { outputs: [losses], saved: [scores!] };
  },
  backward(tape, { saved: [scores], attrs: { margins, center }, dOutputs, needs }) {
    if (needs[0] !== true) return [undefined];
    const pairs = margins.shape[0]!;
    const dScores = tape.like(scores!);
    const kernel = tape.gpu.kernel("bradley-terry/backward", () => ({
      code: SIGMOID + backwardCode,
      bindings: ["read", "read", "read", "write"],
      uniforms: UNIFORMS,
    }));
    const tensors = [scores!, margins, dOutputs[0]!, dScores];
    tape.gpu.dispatch(kernel, tensors, { pairs, center }, gridFor(pairs / 256));
    return [dScores];
  },
};

/**
 * Loss of a reward model for each pair of answers: scores [2P,1] f32, each chosen answer's followed by its rejected one's, and
 * margins [P] f32 -> losses [P] f32, -log sigmoid(chosen - rejected - margin) + center (chosen + rejected)^2, as trl's
 * RewardTrainer has it (its `center_rewards_coefficient`). The margins get no gradient.
 */
export function bradleyTerry(tape: Tape, scores: Tensor, margins: Tensor, center = 0): Tensor {
  expectTensor(margins, [-1], "f32");
  expectTensor(scores, [2 * margins.shape[0]!, 1], "f32");
  return tape.run(op, [scores], { margins, center })[0]!;
}
