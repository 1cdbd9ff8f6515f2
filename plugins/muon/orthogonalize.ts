import { type Gpu, gridFor, type Tensor } from "qlora/core";
import { reduceSource } from "qlora/kernels";
import bf16Code from "./bf16.wgsl" with { type: "text" };
import normalizeCode from "./normalize.wgsl" with { type: "text" };
import productCode from "./product.wgsl" with { type: "text" };

/** Coefficients of the quintic iteration. Source: Jordan et al. 2024, kellerjordan.github.io/posts/muon. */
const [A, B, C] = [3.4445, -4.775, 2.0315];

/** A product of every matrix of a chunk: c = bf16(alpha * a * b + beta * d). */
interface Product {
  readonly c: Tensor;
  readonly a: Tensor;
  readonly b: Tensor;
  /** b is [columns, depth]. */
  readonly transposed: boolean;
  readonly depth: number;
  readonly alpha: number;
  readonly beta: number;
  readonly d: Tensor;
}

function product(gpu: Gpu, { c, a, b, d, transposed, depth, alpha, beta }: Product): void {
  const [matrices, rows, columns] = c.shape as readonly [number, number, number];
  const kernel = gpu.kernel(`muon/product/${transposed ? "nt" : "nn"}`, () => ({
    code: bf16Code + productCode,
    bindings: ["write", "read", "read", "read"],
    uniforms: { rows: "u32", columns: "u32", depth: "u32", matrices: "u32", alpha: "f32", beta: "f32" },
    constants: { TRANSPOSED: transposed ? 1 : 0 },
  }));
  const groups = matrices * Math.ceil(rows / 32) * Math.ceil(columns / 32);
  gpu.dispatch(kernel, [c, a, b, d], { rows, columns, depth, matrices, alpha, beta }, gridFor(groups));
}

/**
 * Replaces each matrix of `x` [matrices, short, long] f32 (of bf16 values) by a nearly orthogonal one with the same
 * singular vectors: `steps` Newton-Schulz iterations X = a X + (b G + c G G) X with G = X X^T, every result rounded to
 * bf16 as torch.optim.Muon's are, sums in f32.
 * @returns the result, in `x` or in `spare` (of x's shape)
 */
export function orthogonalize(gpu: Gpu, x: Tensor, spare: Tensor, steps: number, eps: number): Tensor {
  const [matrices, short, long] = x.shape as readonly [number, number, number];
  const normalize = gpu.kernel("muon/normalize", () => ({
    code: reduceSource(256) + bf16Code + normalizeCode,
    bindings: ["write"],
    uniforms: { matrices: "u32", area: "u32", eps: "f32" },
  }));
  gpu.dispatch(normalize, [x], { matrices, area: short * long, eps }, gridFor(matrices));
  const gram = gpu.alloc([matrices, short, short], "f32", "muon gram", "scratch");
  const mix = gpu.alloc([matrices, short, short], "f32", "muon mix", "scratch");
  let [from, to] = [x, spare];
  for (let step = 0; step < steps; step++) {
    product(gpu, { c: gram, a: from, b: from, transposed: true, depth: long, alpha: 1, beta: 0, d: from });
    // G is symmetric: its rows are its columns, and read faster.
    product(gpu, { c: mix, a: gram, b: gram, transposed: true, depth: short, alpha: C, beta: B, d: gram });
    product(gpu, { c: to, a: mix, b: from, transposed: false, depth: short, alpha: 1, beta: A, d: from });
    [from, to] = [to, from];
  }
  gpu.free(gram);
  gpu.free(mix);
  return from;
}
