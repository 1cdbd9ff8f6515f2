import type { Parameter } from "../../core/compute/parameters.ts";
import type { Op, Tape } from "../../core/compute/tape.ts";
import type { Gpu } from "../../core/device/gpu.ts";
import { gridFor } from "../../core/device/kernel.ts";
import { expectTensor, matrixShape, type Tensor } from "../../core/device/tensor.ts";
import { sourceOrInPlace, vectorSource, widthOf } from "../vector.ts";
import forwardCode from "./forward.wgsl" with { type: "text" };
import gradientCode from "./gradient.wgsl" with { type: "text" };
import sumsCode from "./sums.wgsl" with { type: "text" };

interface ScaleAttrs {
  readonly factor: Parameter;
  readonly divisor: Tensor | undefined;
}

/** Rows that one invocation sums. */
const CHUNK = 128;

/** `fn divisor(column)`: a tensor of its own at `binding`, or 1. */
function divisorSource(present: boolean, binding: number, type: "FV" | "f32"): string {
  return present
    ? `@group(0) @binding(${binding}) var<storage, read> divisors: array<${type}>;\nfn divisor(i: u32) -> ${type} { return divisors[i]; }\n`
    : `fn divisor(i: u32) -> ${type} { return ${type}(1.0); }\n`;
}

const floatType = (tensor: Tensor): "f16" | "f32" => (tensor.dtype === "f16" ? "f16" : "f32");
const some = (tensor: Tensor | undefined): readonly Tensor[] => (tensor === undefined ? [] : [tensor]);

/** Scales `x` into `y`, or `y` in place where x is undefined. */
function scale(gpu: Gpu, x: Tensor | undefined, y: Tensor, { factor, divisor }: ScaleAttrs): void {
  const [rows, columns] = matrixShape(y);
  const width = widthOf(columns);
  const tensors = [factor.value, y, ...some(divisor), ...some(x)];
  const kernel = gpu.kernel(
    `scale-columns/forward/${floatType(y)}/${width}/${x === undefined}/${divisor === undefined}`,
    () => ({
      code:
        vectorSource(width, "X") +
        divisorSource(divisor !== undefined, 2, "FV") +
        sourceOrInPlace(x === undefined, tensors.length - 1) +
        forwardCode,
      bindings: tensors.map((_, i) => (i === 1 ? "write" : "read")),
      uniforms: { size: "u32", columns: "u32" },
      types: { X: floatType(y) },
    }),
  );
  const size = (rows * columns) / width;
  gpu.dispatch(kernel, tensors, { size, columns: columns / width }, gridFor(size / 256));
}

/** factor.grad += the columns' sums of dY * x / divisor, always joined in the same order. */
function addGradient(gpu: Gpu, x: Tensor, dY: Tensor, { factor, divisor }: ScaleAttrs): void {
  const [rows, columns] = matrixShape(x);
  const chunks = Math.ceil(rows / CHUNK);
  const sums = gpu.alloc([chunks, columns], "f32", `sums of ${factor.name}`, "scratch");
  const partial = gpu.kernel(`scale-columns/sums/${floatType(x)}`, () => ({
    code: sumsCode,
    bindings: ["read", "read", "write"],
    uniforms: { rows: "u32", columns: "u32", chunk: "u32" },
    types: { X: floatType(x) },
  }));
  const groups = Math.ceil(columns / 64);
  gpu.dispatch(partial, [dY, x, sums], { rows, columns, chunk: CHUNK }, gridFor(groups * chunks));
  const total = gpu.kernel(`scale-columns/gradient/${divisor === undefined}`, () => ({
    code: divisorSource(divisor !== undefined, 2, "f32") + gradientCode,
    bindings: ["read", "write", ...(divisor === undefined ? [] : (["read"] as const))],
    uniforms: { columns: "u32", chunks: "u32" },
  }));
  gpu.dispatch(total, [sums, factor.grad, ...some(divisor)], { columns, chunks }, gridFor(groups));
  gpu.free(sums);
}

const op: Op<ScaleAttrs> = {
  name: "scaleColumns",
  forward(tape, [x], attrs) {
    const y = tape.alloc(x!.shape, x!.dtype, `scaled(${x!.label})`);
    scale(tape.gpu, x, y, attrs);
    return { outputs: [y], saved: [x!, ...some(attrs.divisor)] };
  },
  // The gradient belongs to this op: it is read, then scaled where it lies, and handed on.
  backward(tape, { saved, attrs, dOutputs, needs }) {
    const dY = dOutputs[0]!;
    addGradient(tape.gpu, saved[0]!, dY, attrs);
    if (needs[0] !== true) return [undefined];
    scale(tape.gpu, undefined, dY, attrs);
    return [dY];
  },
  trains: () => true,
};

/**
 * Every column times a trained number: y = x * factor / divisor, in f32 and then rounded. x [N,C] f32 or f16, factor with C
 * elements of any shape, divisor [C] f32 (taken as a constant; 1 where absent; released by the op) -> [N,C] of x's dtype.
 * The gradient of the factor is added to `factor.grad`, always in the same order.
 * @throws RangeError where the sizes differ
 */
export function scaleColumns(tape: Tape, x: Tensor, factor: Parameter, divisor?: Tensor): Tensor {
  expectTensor(x, [-1, factor.size], "f32", "f16");
  expectTensor(factor.value, factor.shape, "f32");
  if (divisor !== undefined) expectTensor(divisor, [factor.size], "f32");
  return tape.run(op, [x], { factor, divisor })[0]!;
}
