import type { Op, Tape } from "../../core/compute/tape.ts";
import type { Gpu } from "../../core/device/gpu.ts";
import { gridFor } from "../../core/device/kernel.ts";
import type { Kernel } from "../../core/device/pipelines.ts";
import { elementCount, expectTensor, matrixShape, type Tensor } from "../../core/device/tensor.ts";
import { lanesFor, reduceSource } from "../reduce.ts";
import backwardCode from "./backward.wgsl" with { type: "text" };
import forwardCode from "./forward.wgsl" with { type: "text" };

interface CrossEntropyAttrs {
  /** [B] u32 classes or [B,L] f32 weights of the classes. */
  readonly targets: Tensor;
  /** Logits are multiplied by it before the softmax: 1 / temperature. */
  readonly scale: number;
}

const WANTED = {
  hard: "@group(0) @binding(1) var<storage, read> labels: array<u32>;\nfn wanted(b: u32, l: u32) -> f32 { return select(0.0f, 1.0f, labels[b] == l); }\n",
  soft: "@group(0) @binding(1) var<storage, read> targets: array<f32>;\nfn wanted(b: u32, l: u32) -> f32 { return targets[b * params.labels + l]; }\n",
};

function kernelOf(gpu: Gpu, name: "forward" | "backward", targets: Tensor, labels: number): Kernel {
  const kind = targets.dtype === "u32" ? "hard" : "soft";
  const lanes = name === "forward" ? lanesFor(labels) : 0;
  return gpu.kernel(`cross-entropy/${name}/${kind}/${lanes}`, () => ({
    code: WANTED[kind] + (name === "forward" ? reduceSource(lanes) + forwardCode : backwardCode),
    bindings: name === "forward" ? ["read", "read", "write", "write"] : ["read", "read", "read", "read", "write"],
    uniforms: { rows: "u32", labels: "u32", scale: "f32" },
  }));
}

const op: Op<CrossEntropyAttrs> = {
  name: "crossEntropy",
  forward(tape, [logits], { targets, scale }) {
    const [rows, labels] = matrixShape(logits!);
    const losses = tape.alloc([rows], "f32", "losses");
    const stats = tape.alloc([rows, 3], "f32", "log-sum-exp");
    const kernel = kernelOf(tape.gpu, "forward", targets, labels);
    tape.gpu.dispatch(kernel, [logits!, targets, losses, stats], { rows, labels, scale }, gridFor(rows));
    return { outputs: [losses], saved: [logits!, stats] };
  },
  backward(tape, { saved, attrs, dOutputs, needs }) {
    if (needs[0] !== true) return [undefined];
    const [logits, stats] = saved;
    const [rows, labels] = matrixShape(logits!);
    const dLogits = tape.like(logits!);
    const kernel = kernelOf(tape.gpu, "backward", attrs.targets, labels);
    const tensors = [logits!, attrs.targets, dOutputs[0]!, stats!, dLogits];
    tape.gpu.dispatch(
      kernel,
      tensors,
      { rows, labels, scale: attrs.scale },
      gridFor(elementCount(logits!.shape) / 256),
    );
    return [dLogits];
  },
};

/**
 * Cross entropy of each sample: logits [B,L] f32, labels [B] u32 -> losses [B] f32, -log softmax(logits)[label].
 * The gradient of `losses` carries the mean over the samples and the loss scale. The caller has checked that labels are
 * below L. A logit that is not finite gives a loss that is not.
 */
export function crossEntropy(tape: Tape, logits: Tensor, labels: Tensor): Tensor {
  expectTensor(logits, [-1, -1], "f32");
  expectTensor(labels, [logits.shape[0]!], "u32");
  return tape.run(op, [logits], { targets: labels, scale: 1 })[0]!;
}

/**
 * Cross entropy against weights of the classes (label smoothing, distillation): logits [B,L] f32, targets [B,L] f32 ->
 * losses [B] f32, -sum(target * log softmax(logits / temperature)). The targets get no gradient.
 */
export function crossEntropySoft(tape: Tape, logits: Tensor, targets: Tensor, temperature = 1): Tensor {
  expectTensor(logits, [-1, -1], "f32");
  expectTensor(targets, logits.shape, "f32");
  return tape.run(op, [logits], { targets, scale: 1 / temperature })[0]!;
}
