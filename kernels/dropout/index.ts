import type { Op, Tape } from "../../core/compute/tape.ts";
import type { Gpu } from "../../core/device/gpu.ts";
import { gridFor } from "../../core/device/kernel.ts";
import { expectTensor, matrixShape, type Tensor } from "../../core/device/tensor.ts";
import { sourceOrInPlace, vectorSource, type Width, widthOf } from "../vector.ts";
import code from "./dropout.wgsl" with { type: "text" };
import { dropoutScale, dropoutSource, dropoutThreshold } from "./generator.ts";

export { dropoutScale, dropoutSource, dropoutThreshold } from "./generator.ts";

/** What a mask is drawn from. */
export interface DropoutOptions {
  /** [N] u32 (`batch.rowKeys`): names the row whatever batch it lies in. */
  readonly rowKeys: Tensor;
  /** Keeps the masks of different places in the model apart. */
  readonly site: number;
  readonly seed: number;
  /** Probability that an element is dropped. */
  readonly p: number;
}

const APPLY: Readonly<Record<Width, string>> = {
  4: "fn apply(at: u32, column: u32, keep: vec4<bool>) { y[at / 4u] = XV(select(FV(0.0), load(at / 4u) * params.scale, keep)); }\n",
  1: `fn apply(at: u32, column: u32, keep: vec4<bool>) {
  for (var k = 0u; k < min(4u, params.columns - column); k++) {
    y[at + k] = XV(select(0.0f, load(at + k) * params.scale, keep[k]));
  }
}
`,
};

/** Drops from `x` into `y`, or in `y` itself where x is undefined. */
function drop(gpu: Gpu, x: Tensor | undefined, y: Tensor, { rowKeys, site, seed, p }: DropoutOptions): void {
  const [rows, columns] = matrixShape(y);
  const width = widthOf(columns);
  const type = y.dtype === "f16" ? "f16" : "f32";
  const inPlace = x === undefined;
  const kernel = gpu.kernel(`dropout/${type}/${width}/${inPlace}`, () => ({
    code: vectorSource(width, "X") + sourceOrInPlace(inPlace, 2) + APPLY[width] + dropoutSource + code,
    bindings: ["read", "write", ...(inPlace ? [] : (["read"] as const))],
    uniforms: { rows: "u32", columns: "u32", site: "u32", seed: "u32", threshold: "u32", scale: "f32" },
    types: { X: type },
  }));
  const uniforms = { rows, columns, site, seed, threshold: dropoutThreshold(p), scale: dropoutScale(p) };
  gpu.dispatch(kernel, [rowKeys, y, ...(inPlace ? [] : [x])], uniforms, gridFor((rows * Math.ceil(columns / 4)) / 256));
}

const op: Op<DropoutOptions> = {
  name: "dropout",
  forward(tape, [x], attrs) {
    const y = tape.like(x!, `dropout(${x!.label})`);
    drop(tape.gpu, x, y, attrs);
    return { outputs: [y] };
  },
  // The gradient belongs to this op: the mask is drawn again over it, and it is handed on.
  backward(tape, { attrs, dOutputs, needs }) {
    if (needs[0] !== true) return [undefined];
    drop(tape.gpu, undefined, dOutputs[0]!, attrs);
    return [dOutputs[0]];
  },
};

/**
 * Inverted dropout: each element of x [N,C] (f32 or f16) becomes 0 with probability p, else x / (1 - p). p = 0 gives x
 * itself. Backward draws the same mask again, so nothing is kept.
 * @throws RangeError unless 0 <= p < 1
 */
export function dropout(tape: Tape, x: Tensor, options: DropoutOptions): Tensor {
  expectTensor(x, [-1, -1], "f32", "f16");
  expectTensor(options.rowKeys, [x.shape[0]!], "u32");
  if (dropoutThreshold(options.p) === 0) return x;
  return tape.run(op, [x], options)[0]!;
}
