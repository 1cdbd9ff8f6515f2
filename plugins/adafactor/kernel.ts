import { expectTensor, type Gpu, gridFor, type Kernel, type Slab, type Tensor, type UniformType } from "qlora/core";
import { reduceSource } from "qlora/kernels";
import applyCode from "./apply.wgsl" with { type: "text" };
import columnsCode from "./columns.wgsl" with { type: "text" };
import gradientCode from "./gradient.wgsl" with { type: "text" };
import type { SlabLayout } from "./layout.ts";
import ownerCode from "./owner.wgsl" with { type: "text" };
import rowMeanCode from "./row-mean.wgsl" with { type: "text" };
import rowsCode from "./rows.wgsl" with { type: "text" };
import squaresCode from "./squares.wgsl" with { type: "text" };
import stepSizeCode from "./step-size.wgsl" with { type: "text" };
import updateCode from "./update.wgsl" with { type: "text" };

/** Adafactor's constants, as torch.optim.Adafactor has them. */
export interface AdafactorOptions {
  readonly beta2Decay: number;
  readonly eps1: number;
  readonly eps2: number;
  /** torch's `d`. */
  readonly clipThreshold: number;
  readonly weightDecay: number;
}

/** State and tables of one slab on the GPU. */
export interface AdafactorState {
  readonly layout: SlabLayout;
  /** [factors] f32. */
  readonly factors: Tensor;
  /** [factors + size/256] u32 and [parameters, 8] u32, see `SlabLayout`. */
  readonly ownerOf: Tensor;
  readonly owners: Tensor;
}

/** The kernels by name: code, storage bindings (the first is written), uniforms, lanes of its reductions. */
const KERNELS = {
  rows: [gradientCode + rowsCode, 5, { rows: "u32", share: "f32" }, 32],
  columns: [gradientCode + columnsCode, 5, { rows: "u32", factors: "u32", share: "f32" }, 0],
  rowMean: [rowMeanCode, 3, { owners: "u32", eps1: "f32" }, 256],
  squares: [gradientCode + updateCode + squaresCode, 8, { blocks: "u32", factors: "u32", eps1: "f32" }, 64],
  stepSize: [stepSizeCode, 3, { owners: "u32", eps2: "f32", rho: "f32", clipThreshold: "f32" }, 256],
  apply: [gradientCode + updateCode + applyCode, 7, { blocks: "u32", factors: "u32", eps1: "f32", decay: "f32" }, 0],
} as const satisfies Record<string, readonly [string, number, Readonly<Record<string, UniformType>>, number]>;

function kernelOf(gpu: Gpu, name: keyof typeof KERNELS): Kernel {
  const [code, count, uniforms, lanes] = KERNELS[name];
  return gpu.kernel(`adafactor/${name}`, () => ({
    code: ownerCode + (lanes > 0 ? reduceSource(lanes) : "") + code,
    bindings: Array.from({ length: count }, (_, i) => (i === 0 ? "write" : "read")),
    uniforms,
  }));
}

/**
 * Adafactor in place over a slab, g = grad * gradState[CLIP_COEF], as torch.optim.Adafactor: row and column means of g^2 move
 * towards the new ones by t^beta2Decay; V = R C / max(mean(R), eps1); u = g / max(sqrt(V), eps1), clipped to a root mean
 * square of clipThreshold; p *= 1 - lr * weightDecay; p -= max(eps2, rms(p)) min(lr, 1/sqrt(t)) u. A vector keeps its
 * whole V. Does nothing where gradState[FOUND_INF] is not 0; a gradient that is not finite counts as 0.
 * Source: Shazeer and Stern 2018 (arXiv 1804.04235), algorithms 4 and 5.
 * @param update t, 1 for the first
 */
export function adafactorStep(
  gpu: Gpu,
  slab: Slab,
  { layout, factors, ownerOf, owners }: AdafactorState,
  gradState: Tensor,
  options: AdafactorOptions,
  learningRate: number,
  update: number,
): void {
  for (const tensor of [slab.value, slab.grad]) expectTensor(tensor, [slab.size], "f32");
  expectTensor(gradState, [4], "f32");
  const blocks = slab.size / 256;
  const count = slab.parameters.length;
  const squares = gpu.alloc([blocks, 2], "f32", "adafactor squares", "scratch");
  const scales = gpu.alloc([count, 2], "f32", "adafactor scales", "scratch");
  const uniforms = {
    rows: layout.rows,
    factors: layout.factors,
    owners: count,
    blocks,
    share: update ** options.beta2Decay,
    rho: Math.min(learningRate, 1 / Math.sqrt(update)),
    decay: 1 - learningRate * options.weightDecay,
    eps1: options.eps1,
    eps2: options.eps2,
    clipThreshold: options.clipThreshold,
  };
  const run = (name: keyof typeof KERNELS, tensors: readonly Tensor[], groups: number): void =>
    gpu.dispatch(kernelOf(gpu, name), tensors, uniforms, gridFor(groups));

  const moments = [factors, slab.grad, ownerOf, owners, gradState];
  if (layout.rows > 0) run("rows", moments, layout.rows);
  run("columns", moments, (layout.factors - layout.rows) / 64);
  run("rowMean", [scales, factors, owners], count);
  run("squares", [squares, slab.value, slab.grad, ownerOf, owners, factors, scales, gradState], blocks);
  run("stepSize", [scales, squares, owners], count);
  run("apply", [slab.value, slab.grad, ownerOf, owners, factors, scales, gradState], blocks);
  gpu.free(squares);
  gpu.free(scales);
}
