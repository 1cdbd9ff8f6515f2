import type { Gpu } from "../device/gpu.ts";
import { gridFor } from "../device/kernel.ts";
import { elementCount, expectTensor, type Tensor } from "../device/tensor.ts";
import code from "./accumulate.wgsl" with { type: "text" };

/** `into += source`, elementwise, f32 or f16 (the sum is formed in f32). */
export function accumulate(gpu: Gpu, into: Tensor, source: Tensor): void {
  expectTensor(into, into.shape, "f32", "f16");
  expectTensor(source, into.shape, into.dtype);
  const type = into.dtype as "f32" | "f16";
  const kernel = gpu.kernel(`add/${type}`, () => ({
    code,
    bindings: ["write", "read"],
    uniforms: { size: "u32" },
    types: { X: type },
  }));
  const size = elementCount(into.shape);
  gpu.dispatch(kernel, [into, source], { size }, gridFor(size / 256));
}
