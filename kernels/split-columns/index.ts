import type { Op, Tape } from "../../core/compute/tape.ts";
import type { Gpu } from "../../core/device/gpu.ts";
import { gridFor } from "../../core/device/kernel.ts";
import { byteSize, elementCount, expectTensor, matrixShape, type Tensor } from "../../core/device/tensor.ts";
import { vectorSource, widthOf } from "../vector.ts";
import code from "./split.wgsl" with { type: "text" };

interface SplitAttrs {
  readonly sizes: readonly number[];
}

/** Copies the columns of `wide` from `from` on to `narrow`, or back. */
function move(gpu: Gpu, wide: Tensor, narrow: Tensor, from: number, direction: "split" | "join"): void {
  const [, stride] = matrixShape(wide);
  const [, columns] = matrixShape(narrow);
  const width = widthOf(stride, columns, from);
  const type = wide.dtype === "f16" ? "f16" : "f32";
  const kernel = gpu.kernel(`split-columns/${direction}/${type}/${width}`, () => ({
    code: vectorSource(width, "X") + code,
    bindings: ["read", "write"],
    uniforms: { size: "u32", stride: "u32", columns: "u32", from_column: "u32" },
    constants: { JOIN: direction === "join" ? 1 : 0 },
    types: { X: type },
  }));
  const size = elementCount(narrow.shape) / width;
  const sizes = { size, stride: stride / width, columns: columns / width, from_column: from / width };
  const tensors = direction === "split" ? [wide, narrow] : [narrow, wide];
  gpu.dispatch(kernel, tensors, sizes, gridFor(size / 256), { bytes: 2 * byteSize(narrow) });
}

const op: Op<SplitAttrs> = {
  name: "splitColumns",
  forward(tape, [x], { sizes }) {
    const [rows] = matrixShape(x!);
    let from = 0;
    const outputs = sizes.map((size) => {
      const y = tape.alloc([rows, size], x!.dtype, `${x!.label} from ${from}`);
      move(tape.gpu, x!, y, from, "split");
      from += size;
      return y;
    });
    return { outputs };
  },
  backward(tape, { inputs, attrs, dOutputs, needs }) {
    if (needs[0] !== true) return [undefined];
    const dX = tape.like(inputs[0]!);
    // Columns that nothing used have no gradient to be copied.
    if (dOutputs.includes(undefined)) tape.gpu.clear(dX);
    let from = 0;
    for (const [i, size] of attrs.sizes.entries()) {
      const dY = dOutputs[i];
      if (dY !== undefined) move(tape.gpu, dX, dY, from, "join");
      from += size;
    }
    return [dX];
  },
};

/**
 * The parts of a fused linear's output, side by side in its rows: x [N, sum of sizes] f32 or f16 -> a tensor [N, size] for each size.
 * @throws RangeError where the sizes are not x's columns
 */
export function splitColumns(tape: Tape, x: Tensor, sizes: readonly number[]): Tensor[] {
  expectTensor(x, [-1, -1], "f32", "f16");
  const [, columns] = matrixShape(x);
  const sum = sizes.reduce((a, b) => a + b, 0);
  if (sum !== columns) throw new RangeError(`splitColumns: sizes ${sizes.join(" + ")} for ${columns} columns`);
  return [...tape.run(op, [x], { sizes })];
}
