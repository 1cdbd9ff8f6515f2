import type { Parameter } from "../../core/compute/parameters.ts";
import type { Op, Tape } from "../../core/compute/tape.ts";
import type { Gpu } from "../../core/device/gpu.ts";
import { gridFor } from "../../core/device/kernel.ts";
import { expectTensor, matrixShape, type Tensor } from "../../core/device/tensor.ts";
import { lanesFor, reduceSource } from "../reduce.ts";
import { vectorSource, widthOf } from "../vector.ts";
import backwardInputCode from "./backward-input.wgsl" with { type: "text" };
import backwardWeightCode from "./backward-weight.wgsl" with { type: "text" };
import forwardCode from "./forward.wgsl" with { type: "text" };

interface LinearAttrs {
  readonly weight: Parameter;
}

const CODE = { forward: forwardCode, input: backwardInputCode, weight: backwardWeightCode };

/** Runs one of the three products. */
function dispatch(
  gpu: Gpu,
  name: keyof typeof CODE,
  tensors: readonly Tensor[],
  rows: number,
  weight: Parameter,
): void {
  const [labels, columns] = matrixShape(weight.value);
  const width = widthOf(columns);
  const lanes = name === "forward" ? lanesFor(columns / width) : 0;
  const kernel = gpu.kernel(`linear/${name}/${width}/${lanes}`, () => ({
    code: vectorSource(width) + (name === "forward" ? reduceSource(lanes) : "") + CODE[name],
    bindings: ["read", "read", "write"],
    uniforms: { rows: "u32", labels: "u32", columns: "u32" },
  }));
  const groups = {
    forward: rows * labels,
    input: (rows * columns) / width / 256,
    weight: (labels * columns) / width / 256,
  };
  gpu.dispatch(kernel, tensors, { rows, labels, columns: columns / width }, gridFor(groups[name]));
}

const op: Op<LinearAttrs> = {
  name: "scoreHead",
  forward(tape, [x], { weight }) {
    const [rows] = matrixShape(x!);
    const y = tape.alloc([rows, weight.shape[0]!], "f32", "logits");
    dispatch(tape.gpu, "forward", [x!, weight.value, y], rows, weight);
    return { outputs: [y], saved: [x!] };
  },
  backward(tape, { saved: [x], attrs: { weight }, dOutputs: [dY], needs }) {
    const [rows] = matrixShape(x!);
    dispatch(tape.gpu, "weight", [dY!, x!, weight.grad], rows, weight);
    if (needs[0] !== true) return [undefined];
    const dX = tape.like(x!);
    dispatch(tape.gpu, "input", [dY!, weight.value, dX], rows, weight);
    return [dX];
  },
  trains: () => true,
};

/**
 * A small dense head without bias: x [B,C] f32, weight [L,C] f32 -> logits [B,L] f32. The weight's gradient is added to
 * `weight.grad`, always in the same order.
 */
export function scoreHead(tape: Tape, x: Tensor, weight: Parameter): Tensor {
  expectTensor(x, [-1, -1], "f32");
  expectTensor(weight.value, [-1, x.shape[1]!], "f32");
  return tape.run(op, [x], { weight })[0]!;
}
