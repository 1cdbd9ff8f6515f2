import type { Op, Tape } from "../../core/compute/tape.ts";
import type { Gpu } from "../../core/device/gpu.ts";
import { gridFor } from "../../core/device/kernel.ts";
import { expectTensor, matrixShape, type Tensor } from "../../core/device/tensor.ts";
import { sourceOrInPlace, vectorSource, widthOf } from "../vector.ts";
import code from "./rope.wgsl" with { type: "text" };

interface RopeAttrs {
  readonly headDim: number;
  readonly attentionFactor: number;
  readonly segments: Tensor;
  readonly inverseFrequencies: Tensor;
}

/** Inverse frequencies `theta^(-2j/D)` for j < D/2, without any scaling: formed in f64, rounded to f32. */
export function ropeInverseFrequencies(headDim: number, theta: number): Float32Array<ArrayBuffer> {
  return Float32Array.from({ length: headDim / 2 }, (_, j) => theta ** ((-2 * j) / headDim));
}

/** Rotates `x` into `y`, or `y` in place where x is undefined; `direction` -1 turns back. */
function rotate(
  gpu: Gpu,
  x: Tensor | undefined,
  y: Tensor,
  { segments, inverseFrequencies, headDim, attentionFactor: factor }: RopeAttrs,
  direction: 1 | -1,
): void {
  const [rows, columns] = matrixShape(y);
  const half = inverseFrequencies.shape[0]!;
  const heads = columns / headDim;
  const width = widthOf(half, headDim);
  const type = y.dtype === "f16" ? "f16" : "f32";
  const inPlace = x === undefined;
  const kernel = gpu.kernel(`rope/${type}/${width}/${inPlace}`, () => ({
    code: vectorSource(width, "X") + sourceOrInPlace(inPlace, 3) + code,
    bindings: ["read", "read", "write", ...(inPlace ? [] : (["read"] as const))],
    uniforms: { rows: "u32", pairs: "u32", heads: "u32", head_dim: "u32", direction: "f32", factor: "f32" },
    types: { X: type },
  }));
  const tensors = [segments, inverseFrequencies, y, ...(inPlace ? [] : [x])];
  const sizes = { rows, pairs: half / width, heads, head_dim: headDim / width };
  gpu.dispatch(kernel, tensors, { ...sizes, direction, factor }, gridFor((rows * half) / width / 64));
}

const op: Op<RopeAttrs> = {
  name: "rope",
  forward(tape, [x], attrs) {
    const y = tape.alloc(x!.shape, x!.dtype, `rope(${x!.label})`);
    rotate(tape.gpu, x, y, attrs, 1);
    return { outputs: [y] };
  },
  // The gradient belongs to this op: turn it back where it lies, and hand it on.
  backward(tape, { attrs, dOutputs, needs }) {
    if (needs[0] !== true) return [undefined];
    rotate(tape.gpu, undefined, dOutputs[0]!, attrs, -1);
    return [dOutputs[0]];
  },
};

/**
 * Rotary position embedding, halves paired (j with j + D/2), angle = position * inverse frequency in f32 as transformers
 * forms it; positions count from 0 in each sample and are exact to 8192. Fewer frequencies than D/2 turn the first of a head's columns
 * alone (`partial_rotary_factor`).
 * x [N,heads*D], segments [N,2] u32 (`batch.segments`), inverseFrequencies [up to D/2] f32 -> [N,heads*D] of x's dtype.
 * Source: Su et al. 2021 (arXiv 2104.09864).
 * @param attentionFactor multiplies cosine and sine, as the scaling `longrope` asks; default 1
 * @throws RangeError where x's columns are not whole heads, or a head has fewer than twice as many columns as frequencies
 */
export function rope(
  tape: Tape,
  x: Tensor,
  segments: Tensor,
  inverseFrequencies: Tensor,
  headDim: number,
  attentionFactor = 1,
): Tensor {
  expectTensor(x, [-1, -1], "f32", "f16");
  expectTensor(inverseFrequencies, [-1], "f32");
  const [rows, columns] = matrixShape(x);
  expectTensor(segments, [rows, 2], "u32");
  if (columns % headDim !== 0) throw new RangeError(`rope: ${columns} columns are not whole heads of ${headDim}`);
  const turned = 2 * inverseFrequencies.shape[0]!;
  if (turned > headDim) throw new RangeError(`rope: ${turned / 2} frequencies for heads of ${headDim}`);
  return tape.run(op, [x], { segments, inverseFrequencies, headDim, attentionFactor })[0]!;
}
