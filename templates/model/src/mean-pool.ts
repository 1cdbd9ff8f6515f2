/** A kernel of the model's own, with its gradient. */
import { expectTensor, type Gpu, gridFor, matrixShape, type Op, type Tape, type Tensor } from "qlora/core";
import code from "./mean-pool.wgsl" with { type: "text" };

/** Where a batch's samples lie. */
interface Samples {
  /** [N,2] u32: first row of the token's sample, row after its last. */
  readonly segments: Tensor;
  /** [B] u32: row of each sample's last token. */
  readonly lastTokens: Tensor;
}

/** forward: some [B,C] = means of all [N,C]; backward: all = the gradient of it from some. */
export function dispatchMeanPool(
  gpu: Gpu,
  direction: "forward" | "backward",
  all: Tensor,
  some: Tensor,
  { segments, lastTokens }: Samples,
): void {
  const [samples, columns] = matrixShape(some);
  const forward = direction === "forward";
  const kernel = gpu.kernel(`my-plugin/mean-pool/${direction}`, () => ({
    code,
    bindings: ["read", "write", "read", "read"],
    uniforms: { samples: "u32", columns: "u32" },
    constants: { BACKWARD: forward ? 0 : 1 },
  }));
  const [from, to] = forward ? [all, some] : [some, all];
  gpu.dispatch(kernel, [from, to, segments, lastTokens], { samples, columns }, gridFor((samples * columns) / 64));
}

const op: Op<Samples> = {
  name: "meanPool",
  forward(tape, [x], samples) {
    const y = tape.alloc([samples.lastTokens.shape[0]!, x!.shape[1]!], "f32", "means");
    dispatchMeanPool(tape.gpu, "forward", x!, y, samples);
    return { outputs: [y] };
  },
  backward(tape, { inputs, attrs, dOutputs, needs }) {
    if (needs[0] !== true) return [undefined]; // a frozen input gets no gradient
    const dX = tape.like(inputs[0]!);
    dispatchMeanPool(tape.gpu, "backward", dX, dOutputs[0]!, attrs);
    return [dX];
  },
};

/** The mean of each sample's rows: x [N,C] f32 -> [B,C] f32. @throws RangeError for shapes that do not fit */
export function meanPool(tape: Tape, x: Tensor, segments: Tensor, lastTokens: Tensor): Tensor {
  expectTensor(x, [-1, -1], "f32");
  expectTensor(segments, [x.shape[0]!, 2], "u32");
  expectTensor(lastTokens, [-1], "u32");
  return tape.run(op, [x], { segments, lastTokens })[0]!;
}
