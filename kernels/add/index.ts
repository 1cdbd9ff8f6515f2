/** Sums on the tape: a residual connection, a bias, a multiple of another tensor. */
import type { Op, Tape } from "../../core/compute/tape.ts";
import type { Gpu } from "../../core/device/gpu.ts";
import { gridFor } from "../../core/device/kernel.ts";
import { elementCount, expectTensor, matrixShape, type Tensor } from "../../core/device/tensor.ts";
import { vectorSource, widthOf } from "../vector.ts";
import biasCode from "./bias.wgsl" with { type: "text" };
import castCode from "./cast.wgsl" with { type: "text" };
import multipleCode from "./multiple.wgsl" with { type: "text" };
import residualCode from "./residual.wgsl" with { type: "text" };

const floatType = (tensor: Tensor): "f16" | "f32" => (tensor.dtype === "f16" ? "f16" : "f32");

/** y [N,C] f32 = h + x, or y of any float type = x where there is no h. */
function combine(gpu: Gpu, x: Tensor, y: Tensor, h?: Tensor): void {
  const width = widthOf(elementCount(y.shape));
  const types = { X: floatType(x), Y: floatType(y) };
  const kernel = gpu.kernel(`add/${h === undefined ? "cast" : "residual"}/${types.X}/${types.Y}/${width}`, () => ({
    code: vectorSource(width, "X", "Y") + (h === undefined ? castCode : residualCode),
    bindings: ["read", "write", ...(h === undefined ? [] : (["read"] as const))],
    uniforms: { size: "u32" },
    types,
  }));
  const size = elementCount(y.shape) / width;
  gpu.dispatch(kernel, [x, y, ...(h === undefined ? [] : [h])], { size }, gridFor(size / 256));
}

const residualOp: Op<undefined> = {
  name: "add",
  forward(tape, [h, x]) {
    const y = tape.alloc(h!.shape, "f32", "residual");
    combine(tape.gpu, x!, y, h);
    return { outputs: [y] };
  },
  backward(tape, { inputs, dOutputs, needs }) {
    const dY = dOutputs[0]!;
    let dX: Tensor | undefined;
    if (needs[1] === true) {
      dX = tape.like(inputs[1]!);
      combine(tape.gpu, dY, dX);
    }
    return [needs[0] === true ? dY : undefined, dX];
  },
};

/**
 * A residual connection: h + x. h [N,C] f32, x [N,C] f32 or f16 -> [N,C] f32. Backward hands the gradient on as h's and
 * rounds a copy to x's dtype.
 */
export function addResidual(tape: Tape, h: Tensor, x: Tensor): Tensor {
  expectTensor(h, [-1, -1], "f32");
  expectTensor(x, h.shape, "f32", "f16");
  return tape.run(residualOp, [h, x], undefined)[0]!;
}

const biasOp: Op<{ readonly bias: Tensor }> = {
  name: "addBias",
  forward(tape, [x], { bias }) {
    const [rows, columns] = matrixShape(x!);
    const y = tape.alloc([rows, columns], x!.dtype, x!.label);
    const width = widthOf(columns);
    const kernel = tape.gpu.kernel(`add/bias/${floatType(y)}/${width}`, () => ({
      code: vectorSource(width, "X") + biasCode,
      bindings: ["read", "read", "write"],
      uniforms: { size: "u32", columns: "u32" },
      types: { X: floatType(y) },
    }));
    const size = (rows * columns) / width;
    tape.gpu.dispatch(kernel, [x!, bias, y], { size, columns: columns / width }, gridFor(size / 256));
    return { outputs: [y] };
  },
  backward: (_tape, { dOutputs, needs }) => [needs[0] === true ? dOutputs[0] : undefined],
};

/** x + bias on every row, formed in f32: x [N,C] f32 or f16, bias [C] f32 (frozen) -> [N,C] of x's dtype. */
export function addBias(tape: Tape, x: Tensor, bias: Tensor): Tensor {
  expectTensor(x, [-1, -1], "f32", "f16");
  expectTensor(bias, [x.shape[1]!], "f32");
  return tape.run(biasOp, [x], { bias })[0]!;
}

/** y = a + factor * b, or factor * b where there is no a; all of one dtype. */
function multiple(gpu: Gpu, b: Tensor, y: Tensor, factor: number, a?: Tensor): void {
  const width = widthOf(elementCount(y.shape));
  const first =
    a === undefined
      ? "fn first(i: u32) -> FV { return FV(0.0); }\n"
      : "@group(0) @binding(2) var<storage, read> a: array<XV>;\nfn first(i: u32) -> FV { return FV(a[i]); }\n";
  const kernel = gpu.kernel(`add/multiple/${floatType(y)}/${width}/${a === undefined}`, () => ({
    code: vectorSource(width, "X") + first + multipleCode,
    bindings: ["read", "write", ...(a === undefined ? [] : (["read"] as const))],
    uniforms: { size: "u32", factor: "f32" },
    types: { X: floatType(y) },
  }));
  const size = elementCount(y.shape) / width;
  gpu.dispatch(kernel, [b, y, ...(a === undefined ? [] : [a])], { size, factor }, gridFor(size / 256));
}

const multipleOp: Op<{ readonly factor: number }> = {
  name: "addScaled",
  forward(tape, [a, b], { factor }) {
    const y = tape.alloc(a!.shape, a!.dtype, "sum");
    multiple(tape.gpu, b!, y, factor, a);
    return { outputs: [y] };
  },
  backward(tape, { attrs, dOutputs, needs }) {
    const dY = dOutputs[0]!;
    let dB: Tensor | undefined;
    if (needs[1] === true) {
      dB = tape.like(dY);
      multiple(tape.gpu, dY, dB, attrs.factor);
    }
    return [needs[0] === true ? dY : undefined, dB];
  },
};

/** a + factor * b, formed in f32: a and b [N,C] of one dtype, f32 or f16 -> [N,C] of that dtype. */
export function addScaled(tape: Tape, a: Tensor, b: Tensor, factor: number): Tensor {
  expectTensor(a, [-1, -1], "f32", "f16");
  expectTensor(b, a.shape, a.dtype);
  return tape.run(multipleOp, [a, b], { factor })[0]!;
}
