import {
  createDynamicMap,
  expectTensor,
  type Gpu,
  gridFor,
  type Slab,
  type Tensor,
  type UniformType,
} from "qlora/core";
import exactCode from "./lion32bit.wgsl" with { type: "text" };
import eightBitCode from "./lion8bit.wgsl" with { type: "text" };
import stepCode from "./step.wgsl" with { type: "text" };

/** Elements that share an absmax. */
export const BLOCK_SIZE = 256;

/** bitsandbytes' signed 8-bit map. */
export const signedMap = createDynamicMap(true);

/** Lion's constants. */
export interface LionOptions {
  readonly beta1: number;
  readonly beta2: number;
  readonly weightDecay: number;
}

/** Momentum of a slab: f32 [size], or a code for each element, four to a word, and an f32 for each block of 256. */
export type LionState =
  | { readonly kind: "32bit"; readonly momentum: Tensor }
  | { readonly kind: "8bit"; readonly codes: Tensor; readonly absmax: Tensor; readonly map: Tensor };

const uniforms: Readonly<Record<string, UniformType>> = {
  blocks: "u32",
  beta1: "f32",
  rest1: "f32",
  beta2: "f32",
  rest2: "f32",
  learningRate: "f32",
  decay: "f32",
};

/**
 * Lion in place over a slab, g = grad * gradState[CLIP_COEF]: p *= 1 - lr * weightDecay; p -= lr * sign(beta1 m + (1 - beta1) g);
 * m = beta2 m + (1 - beta2) g. Does nothing where gradState[FOUND_INF] is not 0. An 8-bit m is code * absmax; a new code is the
 * nearest, ties to the even index, and never of another sign than m.
 * Source: Chen et al. 2023 (arXiv 2302.06675); bitsandbytes csrc/kernels.cu, `kOptimizerStatic8bit1StateBlockwise`.
 */
export function lionStep(
  gpu: Gpu,
  slab: Slab,
  state: LionState,
  gradState: Tensor,
  options: LionOptions,
  learningRate: number,
): void {
  for (const tensor of [slab.value, slab.grad]) expectTensor(tensor, [slab.size], "f32");
  expectTensor(gradState, [4], "f32");
  const eight = state.kind === "8bit";
  const kernel = gpu.kernel(`lion/${state.kind}`, () => ({
    code: stepCode + (eight ? eightBitCode : exactCode),
    bindings: eight ? ["write", "read", "write", "write", "read", "read"] : ["write", "read", "write", "read"],
    uniforms,
  }));
  const blocks = slab.size / BLOCK_SIZE;
  // As bitsandbytes: the betas are f32 before 1 - beta is formed.
  const [beta1, beta2] = [Math.fround(options.beta1), Math.fround(options.beta2)];
  gpu.dispatch(
    kernel,
    [slab.value, slab.grad, ...(eight ? [state.codes, state.absmax, state.map] : [state.momentum]), gradState],
    {
      blocks,
      beta1,
      rest1: 1 - beta1,
      beta2,
      rest2: 1 - beta2,
      learningRate,
      decay: 1 - learningRate * options.weightDecay,
    },
    gridFor(blocks),
  );
}
