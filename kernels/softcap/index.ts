import type { Op, Tape } from "../../core/compute/tape.ts";
import type { Gpu } from "../../core/device/gpu.ts";
import { gridFor } from "../../core/device/kernel.ts";
import { elementCount, expectTensor, type Tensor } from "../../core/device/tensor.ts";
import code from "./softcap.wgsl" with { type: "text" };

interface SoftcapAttrs {
  readonly cap: number;
}

function apply(gpu: Gpu, backward: boolean, y: Tensor, x: Tensor, cap: number): void {
  const kernel = gpu.kernel(`softcap/${backward ? "backward" : "forward"}`, () => ({
    code,
    bindings: ["write", "read"],
    uniforms: { size: "u32", cap: "f32" },
    constants: { BACKWARD: backward ? 1 : 0 },
  }));
  const size = elementCount(x.shape);
  gpu.dispatch(kernel, [y, x], { size, cap }, gridFor(size / 256));
}

const op: Op<SoftcapAttrs> = {
  name: "softcap",
  forward(tape, [x], { cap }) {
    const y = tape.like(x!, "softcap");
    apply(tape.gpu, false, y, x!, cap);
    return { outputs: [y], saved: [x!] };
  },
  backward(tape, { saved, attrs, dOutputs, needs }) {
    if (needs[0] !== true) return [undefined];
    const dY = dOutputs[0]!;
    apply(tape.gpu, true, dY, saved[0]!, attrs.cap);
    return [dY];
  },
};

/**
 * Soft-capping: cap * tanh(x / cap), f32, any shape.
 * Source: Gemma-2 (arXiv 2408.00118), section 2.
 * @throws RangeError unless cap is positive
 */
export function softcap(tape: Tape, x: Tensor, cap: number): Tensor {
  expectTensor(x, x.shape, "f32");
  if (!(cap > 0)) throw new RangeError(`softcap: the cap must be positive, got ${cap}`);
  return tape.run(op, [x], { cap })[0]!;
}
