import type { Slab } from "../../core/compute/parameters.ts";
import type { Gpu } from "../../core/device/gpu.ts";
import { gridFor } from "../../core/device/kernel.ts";
import { expectTensor, type Tensor } from "../../core/device/tensor.ts";
import fold from "./fold.wgsl" with { type: "text" };
import partial from "./partial.wgsl" with { type: "text" };

/** How gradients are unscaled and clipped. */
export interface GradNormOptions {
  /** What the loss was multiplied by before backward. */
  readonly lossScale: number;
  /** Largest global norm after clipping; 0 or Infinity never clips. */
  readonly maxNorm: number;
}

/** vec4s of one workgroup's chunk: 16,384 gradients. */
const VECTORS = 4096;

/**
 * The global L2 norm over the gradients of all slabs, divided by the loss scale, in a fixed order of additions.
 * Writes `gradState` [4] f32 = [coefficient, skip, norm, 0]:
 * coefficient = min(1, maxNorm / (norm + 1e-6)) / lossScale (torch's clip_grad_norm_ and unscaling in one);
 * where a gradient is infinite or NaN, or the scaled norm exceeds 1.8e19, it is [0, 1, Infinity, 0].
 * @throws RangeError for a gradState of another shape or a loss scale that is not positive
 */
export function gradNorm(
  gpu: Gpu,
  slabs: readonly Slab[],
  gradState: Tensor,
  { lossScale, maxNorm }: GradNormOptions,
): void {
  expectTensor(gradState, [4], "f32");
  if (!(lossScale > 0 && Number.isFinite(lossScale)))
    throw new RangeError(`loss scale ${lossScale} is not a positive number`);
  if (!(maxNorm >= 0)) throw new RangeError(`maxNorm ${maxNorm} is negative or not a number`);
  const chunks = slabs.map((slab) => Math.ceil(slab.size / 4 / VECTORS));
  const count = chunks.reduce((sum, n) => sum + n, 0);
  const partials = gpu.alloc([Math.max(1, count), 2], "f32", "gradient partial sums", "scratch");
  const partialKernel = gpu.kernel("grad-norm/partial", () => ({
    code: partial,
    bindings: ["read", "write"],
    uniforms: { vectors: "u32", groups: "u32", first: "u32" },
    constants: { VECTORS },
  }));
  const foldKernel = gpu.kernel("grad-norm/fold", () => ({
    code: fold,
    bindings: ["read", "write"],
    uniforms: { count: "u32", lossScale: "f32", maxNorm: "f32" },
  }));
  let first = 0;
  for (const [i, slab] of slabs.entries()) {
    const groups = chunks[i]!;
    expectTensor(slab.grad, [slab.size], "f32");
    gpu.dispatch(partialKernel, [slab.grad, partials], { vectors: slab.size / 4, groups, first }, gridFor(groups));
    first += groups;
  }
  const limit = Number.isFinite(maxNorm) ? maxNorm : 0;
  gpu.dispatch(foldKernel, [partials, gradState], { count, lossScale, maxNorm: limit }, [1, 1, 1]);
  gpu.free(partials);
}
