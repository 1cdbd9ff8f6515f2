/** A frozen linear whose weight is dense: what a merged or never quantized checkpoint holds. */
import type { Op, Tape } from "../../core/compute/tape.ts";
import { expectTensor, matrixShape, type Tensor } from "../../core/device/tensor.ts";
import { addBias } from "../add/index.ts";
import { matmulNN, matmulNT } from "../matmul/index.ts";

const op: Op<{ readonly weight: Tensor }> = {
  name: "denseLinear",
  forward(tape, [x], { weight }) {
    const y = tape.alloc([matrixShape(x!)[0], matrixShape(weight)[0]], tape.gpu.computeDtype, weight.label);
    matmulNT(tape.gpu, x!, weight, y);
    return { outputs: [y] };
  },
  backward(tape, { attrs: { weight }, inputs, dOutputs, needs, existing }) {
    if (needs[0] !== true) return [undefined];
    const dX = existing[0] ?? tape.like(inputs[0]!);
    matmulNN(tape.gpu, dOutputs[0]!, weight, dX, { accumulate: existing[0] !== undefined });
    return [dX];
  },
};

/**
 * y = x W^T + bias: x [N,in] -> y [N,out], weight [out,in], all in the tier's operand type; f32 accumulation. Weight and bias
 * are frozen.
 * @param bias [out] f32
 */
export function denseLinear(tape: Tape, x: Tensor, weight: Tensor, bias?: Tensor): Tensor {
  expectTensor(weight, [-1, -1], tape.gpu.computeDtype);
  expectTensor(x, [-1, weight.shape[1]!], tape.gpu.computeDtype);
  const y = tape.run(op, [x], { weight })[0]!;
  if (bias === undefined) return y;
  const sum = addBias(tape, y, bias);
  tape.release(y);
  return sum;
}
