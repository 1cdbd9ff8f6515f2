/** Losses of each sample over pairs of a logit and its target: what mean squared error and binary cross entropy share. */
import type { Op } from "../core/compute/tape.ts";
import { gridFor } from "../core/device/kernel.ts";
import { elementCount, matrixShape, type Tensor } from "../core/device/tensor.ts";
import { lanesFor, reduceSource } from "./reduce.ts";

/** What such a loss compares the logits with. */
export interface TargetsAttrs {
  /** [B,L] f32. */
  readonly targets: Tensor;
}

/** The op logits [B,L] f32 -> losses [B] f32 of two WGSL texts; `name` begins its kernels' keys. */
export function elementwiseLoss(
  name: string,
  code: { readonly forward: string; readonly backward: string },
): Op<TargetsAttrs> {
  return {
    name,
    forward(tape, [logits], { targets }) {
      const [rows, labels] = matrixShape(logits!);
      const losses = tape.alloc([rows], "f32", "losses");
      const lanes = lanesFor(labels);
      const kernel = tape.gpu.kernel(`${name}/forward/${lanes}`, () => ({
        code: reduceSource(lanes) + code.forward,
        bindings: ["read", "read", "write"],
        uniforms: { rows: "u32", labels: "u32" },
      }));
      tape.gpu.dispatch(kernel, [logits!, targets, losses], { rows, labels }, gridFor(rows));
      return { outputs: [losses], saved: [logits!] };
    },
    backward(tape, { saved: [logits], attrs: { targets }, dOutputs, needs }) {
      if (needs[0] !== true) return [undefined];
      const [rows, labels] = matrixShape(logits!);
      const dLogits = tape.like(logits!);
      const kernel = tape.gpu.kernel(`${name}/backward`, () => ({
        code: code.backward,
        bindings: ["read", "read", "read", "write"],
        uniforms: { rows: "u32", labels: "u32" },
      }));
      const tensors = [logits!, targets, dOutputs[0]!, dLogits];
      tape.gpu.dispatch(kernel, tensors, { rows, labels }, gridFor(elementCount(logits!.shape) / 256));
      return [dLogits];
    },
  };
}
