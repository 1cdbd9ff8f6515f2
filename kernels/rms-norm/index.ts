import type { Op, Tape } from "../../core/compute/tape.ts";
import type { Gpu } from "../../core/device/gpu.ts";
import { gridFor } from "../../core/device/kernel.ts";
import { expectTensor, matrixShape, type Tensor } from "../../core/device/tensor.ts";
import { lanesFor, reduceSource } from "../reduce.ts";
import { vectorSource, widthOf } from "../vector.ts";
import backwardCode from "./backward.wgsl" with { type: "text" };
import forwardCode from "./forward.wgsl" with { type: "text" };

/** What a model says about its norms. */
export interface RmsNormOptions {
  /** `rmsNormEps`. */
  readonly eps: number;
  /** 1 for Gemma, whose norms multiply by 1 + weight; 0 for Llama's kind. */
  readonly offset: 0 | 1;
}

/** How one norm is asked for. */
export interface RmsNormSettings extends RmsNormOptions {
  /** Of the output; by default the tier's operand type. */
  readonly dtype?: "f16" | "f32" | undefined;
  /** Columns are heads of so many numbers, each normed by itself with the same weight, as Qwen3 norms queries and keys. */
  readonly headDim?: number | undefined;
}

type FloatType = "f16" | "f32";

interface RmsNormAttrs extends RmsNormOptions {
  /** [C] f32, frozen; [D] where heads are normed. */
  readonly weight: Tensor;
  readonly dtype: FloatType;
}

const floatType = (tensor: Tensor): FloatType => (tensor.dtype === "f16" ? "f16" : "f32");

interface Variant {
  readonly name: "forward" | "backward";
  readonly x: FloatType;
  readonly y: FloatType;
  readonly columns: number;
  /** Forward adds a residual; backward adds to a gradient that is there. */
  readonly added: boolean;
}

const EXTRA = {
  forward: {
    true: "@group(0) @binding(4) var<storage, read> residual: array<FV>;\nfn base(i: u32) -> FV { return residual[i]; }\n",
    false: "fn base(i: u32) -> FV { return FV(0.0); }\n",
  },
  backward: {
    true: "fn before(i: u32) -> FV { return FV(dX[i]); }\n",
    false: "fn before(i: u32) -> FV { return FV(0.0); }\n",
  },
};

function dispatch(
  gpu: Gpu,
  { name, x, y, columns, added }: Variant,
  tensors: readonly Tensor[],
  rows: number,
  { eps, offset }: RmsNormOptions,
): void {
  const width = widthOf(columns);
  const lanes = lanesFor(columns / width);
  const kernel = gpu.kernel(`rms-norm/${name}/${x}/${y}/${width}/${lanes}/${added}`, () => ({
    code:
      vectorSource(width, "X", "Y") +
      reduceSource(lanes) +
      EXTRA[name][added ? "true" : "false"] +
      (name === "forward" ? forwardCode : backwardCode),
    bindings:
      name === "backward"
        ? ["read", "read", "read", "read", "write"]
        : ["read", "read", "write", "write", ...(added ? (["read"] as const) : [])],
    uniforms: { rows: "u32", columns: "u32", eps: "f32", offset: "f32" },
    types: { X: x, Y: y },
  }));
  gpu.dispatch(kernel, tensors, { rows, columns: columns / width, eps, offset }, gridFor(rows));
}

/** Heads lie one behind the other in a row, so a head is a row of the same memory: rows and columns as the kernels count them. */
function normedRows(x: Tensor, { weight }: RmsNormAttrs): readonly [rows: number, columns: number] {
  const [rows, columns] = matrixShape(x);
  const size = weight.shape[0]!;
  return [(rows * columns) / size, size];
}

/** x [N,C], residual [N,C] f32 or undefined -> y [N,C] and 1/rms [N] f32, [N*H] of heads. */
function forward(
  tape: Tape,
  x: Tensor,
  residual: Tensor | undefined,
  attrs: RmsNormAttrs,
): { y: Tensor; inverseRms: Tensor } {
  expectTensor(x, [-1, -1], "f32", "f16");
  if (residual !== undefined) expectTensor(residual, x.shape, "f32");
  const [rows, columns] = normedRows(x, attrs);
  const y = tape.alloc(x.shape, attrs.dtype, residual === undefined ? "norm" : "residual");
  const inverseRms = tape.alloc([rows], "f32", "1/rms");
  const tensors = [x, attrs.weight, inverseRms, y, ...(residual === undefined ? [] : [residual])];
  const variant = { name: "forward", x: floatType(x), y: attrs.dtype, columns, added: residual !== undefined } as const;
  dispatch(tape.gpu, variant, tensors, rows, attrs);
  return { y, inverseRms };
}

/** dX [N,C] of the norm alone; added to `existing` where given. */
function backward(
  tape: Tape,
  x: Tensor,
  inverseRms: Tensor,
  dY: Tensor,
  existing: Tensor | undefined,
  attrs: RmsNormAttrs,
): Tensor {
  const [rows, columns] = normedRows(x, attrs);
  expectTensor(dY, x.shape, attrs.dtype);
  const dX = existing ?? tape.like(x);
  const variant = {
    name: "backward",
    x: floatType(x),
    y: attrs.dtype,
    columns,
    added: existing !== undefined,
  } as const;
  dispatch(tape.gpu, variant, [x, attrs.weight, inverseRms, dY, dX], rows, attrs);
  return dX;
}

const normOp: Op<RmsNormAttrs> = {
  name: "rmsNorm",
  forward(tape, [x], attrs) {
    const { y, inverseRms } = forward(tape, x!, undefined, attrs);
    return { outputs: [y], saved: [x!, inverseRms] };
  },
  backward(tape, { saved, attrs, dOutputs, needs, existing }) {
    if (needs[0] !== true) return [undefined];
    return [backward(tape, saved[0]!, saved[1]!, dOutputs[0]!, existing[0], attrs)];
  },
};

const addNormOp: Op<RmsNormAttrs> = {
  name: "addNorm",
  forward(tape, [residual, x], attrs) {
    const { y, inverseRms } = forward(tape, x!, residual, attrs);
    return { outputs: [y], saved: [x!, inverseRms] };
  },
  backward(tape, { saved, attrs, dOutputs, needs, existing }) {
    const dOut = dOutputs[0]!;
    const dX = needs[1] === true ? backward(tape, saved[0]!, saved[1]!, dOut, existing[1], attrs) : undefined;
    return [needs[0] === true ? dOut : undefined, dX];
  },
};

/**
 * Root mean square norm, computed in f32: x / sqrt(mean(x^2) + eps) * (offset + weight), cast at the end.
 * x [N,C] f32 or f16, weight [C] f32 (frozen) -> [N,C] of `dtype`, by default the tier's operand type. With `headDim` D,
 * each head of D columns is normed by itself, where it lies: weight [D].
 * Source: Zhang and Sennrich 2019 (arXiv 1910.07467); the order of casts is that of Gemma-2 in transformers.
 * @throws RangeError where x's columns are not whole heads
 */
export function rmsNorm(
  tape: Tape,
  x: Tensor,
  weight: Tensor,
  { eps, offset, dtype = tape.gpu.computeDtype, headDim }: RmsNormSettings,
): Tensor {
  const [, columns] = matrixShape(x);
  expectTensor(weight, [headDim ?? columns], "f32");
  if (headDim !== undefined && columns % headDim !== 0)
    throw new RangeError(`rmsNorm: ${columns} columns are not whole heads of ${headDim}`);
  return tape.run(normOp, [x], { weight, eps, offset, dtype })[0]!;
}

/**
 * Gemma-2's end of a sublayer: residual + rmsNorm(x). residual [N,C] f32, x [N,C] f32 or f16, weight [C] f32 (frozen)
 * -> [N,C] f32. Backward hands the gradient on as the residual's.
 */
export function addNorm(
  tape: Tape,
  residual: Tensor,
  x: Tensor,
  weight: Tensor,
  { eps, offset }: RmsNormOptions,
): Tensor {
  expectTensor(weight, [matrixShape(x)[1]], "f32");
  return tape.run(addNormOp, [residual, x], { weight, eps, offset, dtype: "f32" })[0]!;
}
