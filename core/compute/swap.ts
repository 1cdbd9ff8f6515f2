import type { Gpu } from "../device/gpu.ts";
import { gridFor } from "../device/kernel.ts";
import { elementCount, expectTensor, type Tensor } from "../device/tensor.ts";
import code from "./swap.wgsl" with { type: "text" };

/** Exchanges the bits of two f32 tensors of one shape, in place: what an optimizer's `evaluating` does with its averages. */
export function swapTensors(gpu: Gpu, a: Tensor, b: Tensor): void {
  expectTensor(a, a.shape, "f32");
  expectTensor(b, a.shape, "f32");
  const kernel = gpu.kernel("swap", () => ({ code, bindings: ["write", "write"], uniforms: { size: "u32" } }));
  const size = elementCount(a.shape);
  gpu.dispatch(kernel, [a, b], { size }, gridFor(size / 256));
}
