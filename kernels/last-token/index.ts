import type { Op, Tape } from "../../core/compute/tape.ts";
import type { Gpu } from "../../core/device/gpu.ts";
import { gridFor } from "../../core/device/kernel.ts";
import { byteSize, elementCount, expectTensor, matrixShape, type Tensor } from "../../core/device/tensor.ts";
import { vectorSource, widthOf } from "../vector.ts";
import gatherCode from "./gather.wgsl" with { type: "text" };
import scatterCode from "./scatter.wgsl" with { type: "text" };

interface PoolAttrs {
  readonly lastTokens: Tensor;
}

/** Copies rows `all[lastTokens]` to `some`, or adds `some` to those rows. */
function move(gpu: Gpu, name: "gather" | "scatter", all: Tensor, some: Tensor, lastTokens: Tensor): void {
  const [rows, columns] = matrixShape(all);
  const width = widthOf(columns);
  const type = all.dtype === "f16" ? "f16" : "f32";
  const kernel = gpu.kernel(`pool/${name}/${type}/${width}`, () => ({
    code: vectorSource(width, "X") + (name === "gather" ? gatherCode : scatterCode),
    bindings: ["read", "read", "write"],
    uniforms: { size: "u32", rows: "u32", columns: "u32" },
    types: { X: type },
  }));
  const size = elementCount(some.shape) / width;
  const tensors = name === "gather" ? [all, lastTokens, some] : [some, lastTokens, all];
  const work = { bytes: 2 * byteSize(some) };
  gpu.dispatch(kernel, tensors, { size, rows, columns: columns / width }, gridFor(size / 256), work);
}

const op: Op<PoolAttrs> = {
  name: "lastToken",
  forward(tape, [x], { lastTokens }) {
    const y = tape.alloc([lastTokens.shape[0]!, x!.shape[1]!], x!.dtype, "pooled");
    move(tape.gpu, "gather", x!, y, lastTokens);
    return { outputs: [y] };
  },
  backward(tape, { inputs, attrs, dOutputs, needs, existing }) {
    if (needs[0] !== true) return [undefined];
    const dX = existing[0] ?? tape.like(inputs[0]!);
    if (existing[0] === undefined) tape.gpu.clear(dX);
    move(tape.gpu, "scatter", dX, dOutputs[0]!, attrs.lastTokens);
    return [dX];
  },
};

/** The row of each sample's last token: x [N,C] f32 or f16, lastTokens [B] u32 (`batch.lastTokens`, no two alike) -> [B,C]. */
export function lastToken(tape: Tape, x: Tensor, lastTokens: Tensor): Tensor {
  expectTensor(x, [-1, -1], "f32", "f16");
  expectTensor(lastTokens, [-1], "u32");
  return tape.run(op, [x], { lastTokens })[0]!;
}
