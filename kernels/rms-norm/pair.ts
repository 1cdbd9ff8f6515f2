/** The end of one sublayer and the start of the next, in one pass over the residual stream. */
import type { Op, Tape } from "../../core/compute/tape.ts";
import type { Gpu } from "../../core/device/gpu.ts";
import { gridFor, type KernelSpec } from "../../core/device/kernel.ts";
import { expectTensor, matrixShape, type Tensor } from "../../core/device/tensor.ts";
import { lanesFor, reduceSource } from "../reduce.ts";
import { vectorSource, widthOf } from "../vector.ts";
import type { RmsNormOptions } from "./index.ts";
import backwardCode from "./pair-backward.wgsl" with { type: "text" };
import forwardCode from "./pair-forward.wgsl" with { type: "text" };

interface PairAttrs extends RmsNormOptions {
  readonly weight: Tensor;
  readonly nextWeight: Tensor;
}

const BINDINGS: Readonly<Record<"forward" | "backward", KernelSpec["bindings"]>> = {
  forward: ["read", "read", "read", "read", "write", "write", "write"],
  backward: ["read", "read", "read", "read", "read", "read", "write", "write"],
};

function dispatch(
  gpu: Gpu,
  name: keyof typeof BINDINGS,
  x: Tensor,
  tensors: readonly Tensor[],
  { eps, offset }: RmsNormOptions,
): void {
  const [rows, columns] = matrixShape(x);
  const width = widthOf(columns);
  const lanes = lanesFor(columns / width);
  const type = x.dtype === "f16" ? "f16" : "f32";
  const kernel = gpu.kernel(`rms-norm/pair/${name}/${type}/${gpu.computeDtype}/${width}/${lanes}`, () => ({
    code: vectorSource(width, "X", "Y") + reduceSource(lanes) + (name === "forward" ? forwardCode : backwardCode),
    bindings: BINDINGS[name],
    uniforms: { rows: "u32", columns: "u32", eps: "f32", offset: "f32" },
    types: { X: type, Y: gpu.computeDtype },
  }));
  gpu.dispatch(kernel, tensors, { rows, columns: columns / width, eps, offset }, gridFor(rows));
}

const op: Op<PairAttrs> = {
  name: "addNormThenNorm",
  forward(tape, [residual, x], attrs) {
    const [rows, columns] = matrixShape(x!);
    const sums = tape.alloc([rows, columns], "f32", "residual");
    const y = tape.alloc([rows, columns], tape.gpu.computeDtype, "norm");
    const inverseRms = tape.alloc([rows, 2], "f32", "1/rms");
    dispatch(tape.gpu, "forward", x!, [x!, residual!, attrs.weight, attrs.nextWeight, inverseRms, sums, y], attrs);
    return { outputs: [sums, y], saved: [x!, sums, inverseRms] };
  },
  backward(tape, { saved, attrs, dOutputs, needs }) {
    const [x, sums, inverseRms] = saved as [Tensor, Tensor, Tensor];
    let [dSums, dY] = dOutputs;
    // An output that nobody used has a gradient of zeros.
    if (dSums === undefined) tape.gpu.clear((dSums = tape.like(sums)));
    if (dY === undefined) tape.gpu.clear((dY = tape.alloc(sums.shape, tape.gpu.computeDtype, "d(norm)")));
    const dX = tape.like(x);
    dispatch(tape.gpu, "backward", x, [x, sums, attrs.weight, attrs.nextWeight, inverseRms, dY, dSums, dX], attrs);
    return [needs[0] === true ? dSums : undefined, needs[1] === true ? dX : undefined];
  },
};

/**
 * `addNorm` and the norm of its sum, which starts the next sublayer: `[residual + rmsNorm(x), rmsNorm of that]`, the same
 * numbers as by the two ops, with the residual stream read once less each way.
 * residual [N,C] f32, x [N,C] f32 or f16, weights [C] f32 (frozen) -> [N,C] f32 and [N,C] in the tier's operand type.
 */
export function addNormThenNorm(
  tape: Tape,
  residual: Tensor,
  x: Tensor,
  weight: Tensor,
  nextWeight: Tensor,
  { eps, offset }: RmsNormOptions,
): [Tensor, Tensor] {
  expectTensor(x, [-1, -1], "f32", "f16");
  expectTensor(residual, x.shape, "f32");
  for (const w of [weight, nextWeight]) expectTensor(w, [x.shape[1]!], "f32");
  const [sums, y] = tape.run(op, [residual, x], { weight, nextWeight, eps, offset });
  return [sums!, y!];
}
