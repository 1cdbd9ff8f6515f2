import type { Slab } from "../../core/compute/parameters.ts";
import type { Gpu } from "../../core/device/gpu.ts";
import { gridFor, type UniformType } from "../../core/device/kernel.ts";
import { expectTensor, type Tensor } from "../../core/device/tensor.ts";
import code from "./adamw.wgsl" with { type: "text" };

/** AdamW's constants. */
export interface AdamWOptions {
  readonly adamBeta1: number;
  readonly adamBeta2: number;
  readonly adamEpsilon: number;
  readonly weightDecay: number;
}

/** Per-update uniforms that AdamW's kernels share. */
export interface AdamWScalars {
  readonly update: number;
  readonly beta1: number;
  readonly beta2: number;
  /** 1 - beta1, 1 - beta2. */
  readonly rest1: number;
  readonly rest2: number;
  /** -lr * c2 / c1 with c1 = 1 - beta1^t, c2 = sqrt(1 - beta2^t). */
  readonly stepSize: number;
  /** c2 * epsilon. */
  readonly epsilon: number;
  /** 1 - lr * weightDecay. */
  readonly decay: number;
}

/** Types of {@link AdamWScalars} for a kernel. */
export const adamWUniforms: Readonly<Record<keyof AdamWScalars, UniformType>> = {
  update: "u32",
  beta1: "f32",
  beta2: "f32",
  rest1: "f32",
  rest2: "f32",
  stepSize: "f32",
  epsilon: "f32",
  decay: "f32",
};

/**
 * Scalars of update `update` (1 for the first). The betas are rounded to f32 before 1 - beta is formed, as
 * bitsandbytes does: 1 - 0.999 comes out 5e-5 larger, in the moment and in its bias correction alike.
 */
export function adamWScalars(options: AdamWOptions, learningRate: number, update: number): AdamWScalars {
  if (!(Number.isInteger(update) && update >= 1)) throw new RangeError(`update ${update}: the first is 1`);
  const beta1 = Math.fround(options.adamBeta1);
  const beta2 = Math.fround(options.adamBeta2);
  const correction2 = Math.sqrt(1 - beta2 ** update);
  return {
    update,
    beta1,
    beta2,
    rest1: 1 - beta1,
    rest2: 1 - beta2,
    stepSize: (-learningRate * correction2) / (1 - beta1 ** update),
    epsilon: correction2 * options.adamEpsilon,
    decay: 1 - learningRate * options.weightDecay,
  };
}

/** 32-bit AdamW's state of one slab. */
export interface AdamWState {
  /** [size] f32 first and second moment. */
  readonly state1: Tensor;
  readonly state2: Tensor;
  /** [1] u32: number of the last update that was applied, whatever slab it was for. */
  readonly applied: Tensor;
}

/**
 * AdamW in place over a slab, 32-bit state, in bitsandbytes' form (`kOptimizer32bit2State`), g = grad * gradState[CLIP_COEF]:
 * m = beta1 m + (1 - beta1) g; v = beta2 v + (1 - beta2) g^2; p += -lr c2 / c1 * m / (sqrt(v) + c2 eps);
 * then, after the update as in its CUDA kernels (torch decays before it), p *= 1 - lr * weightDecay.
 * Does nothing where gradState[FOUND_INF] is not 0. An element whose gradient is not finite keeps its value and its moments
 * become 0 (the rule of bitsandbytes' 8-bit kernel).
 * @param gradState [4] f32, see `gradNorm`
 * @throws RangeError for a tensor of another shape
 */
export function adamWStep(gpu: Gpu, slab: Slab, state: AdamWState, gradState: Tensor, scalars: AdamWScalars): void {
  for (const tensor of [slab.value, slab.grad, state.state1, state.state2]) expectTensor(tensor, [slab.size], "f32");
  expectTensor(gradState, [4], "f32");
  expectTensor(state.applied, [1], "u32");
  const kernel = gpu.kernel("adamw", () => ({
    code,
    bindings: ["write", "read", "write", "write", "read", "write"],
    uniforms: { vectors: "u32", ...adamWUniforms },
  }));
  const vectors = slab.size / 4;
  gpu.dispatch(
    kernel,
    [slab.value, slab.grad, state.state1, state.state2, gradState, state.applied],
    { vectors, ...scalars },
    gridFor(vectors / 256),
  );
}
