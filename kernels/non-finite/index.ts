import type { Gpu } from "../../core/device/gpu.ts";
import { gridFor } from "../../core/device/kernel.ts";
import { elementCount, expectTensor, type Tensor } from "../../core/device/tensor.ts";
import code from "./non-finite.wgsl" with { type: "text" };

const PER_LANE = 8;

/**
 * Adds the number of elements of `tensor` (f32 or f16, any shape) that are NaN or infinite to `counters[slot]`.
 * @param counters [S] u32; the caller clears it
 * @throws RangeError for a slot outside the counters
 */
export function countNonFinite(gpu: Gpu, tensor: Tensor, counters: Tensor, slot: number): void {
  expectTensor(tensor, tensor.shape, "f32", "f16");
  expectTensor(counters, [-1], "u32");
  if (!(slot >= 0 && slot < counters.shape[0]!))
    throw new RangeError(`countNonFinite: no slot ${slot} in ${counters.shape[0]} counters`);
  const perWord = tensor.dtype === "f16" ? 2 : 1;
  const kernel = gpu.kernel(`non-finite/${tensor.dtype}`, () => ({
    code,
    bindings: ["read", "write"],
    uniforms: { size: "u32", slot: "u32" },
    constants: { PER_WORD: perWord, PER_LANE },
  }));
  const size = elementCount(tensor.shape);
  gpu.dispatch(kernel, [tensor, counters], { size, slot }, gridFor(size / perWord / 256 / PER_LANE));
}
