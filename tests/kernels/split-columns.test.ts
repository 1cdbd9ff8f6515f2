import { describe, expect, test } from "bun:test";
import type { Tape } from "../../core/compute/tape.ts";
import type { Tensor } from "../../core/device/tensor.ts";
import { splitColumns } from "../../kernels/split-columns/index.ts";
import { splitColumnsReference } from "../../kernels/split-columns/reference.ts";
import { expectClose } from "../support/close.ts";
import { gpuOf, normals, rounded, runSeed, tensorOf, tiers } from "../support/gpu.ts";
import { runOp } from "../support/op.ts";

test("the reference", () => {
  const parts = splitColumnsReference([1, 2, 3, 4, 5, 6], [1, 2]).map((part) => [...part]);
  expect(parts).toEqual([
    [1, 4],
    [2, 3, 5, 6],
  ]);
});

for (const tier of tiers) {
  describe(`splitColumns, tier ${tier} (seed ${runSeed})`, () => {
    for (const [rows, sizes] of [
      [1, [1]],
      [17, [3, 5, 1]],
      [257, [128, 32, 32]],
      [5, [4, 6, 2]],
    ] as const) {
      const columns = sizes.reduce<number>((a, b) => a + b, 0);
      for (const part of sizes.keys()) {
        test(`[${rows},${sizes.join("+")}], part ${part}: its columns, and zeros for the gradient of the others`, async () => {
          const gpu = await gpuOf(tier);
          const x = rounded(normals(rows * columns, runSeed), gpu.computeDtype);
          const dY = rounded(normals(rows * sizes[part]!, runSeed + 1), gpu.computeDtype);
          const input = tensorOf(gpu, x, [rows, columns], gpu.computeDtype);
          const pick = (tape: Tape, t: Tensor): Tensor => {
            const parts = splitColumns(tape, t, sizes);
            tape.release(...parts.filter((_, i) => i !== part));
            return parts[part]!;
          };
          const run = await runOp(gpu, [input], pick, dY);
          expectClose(run.output, splitColumnsReference(x, sizes)[part]!, { atol: 0 });
          const back = splitColumnsReference(run.gradients[0]!, sizes);
          for (const [i, gradient] of back.entries()) {
            expectClose(gradient, i === part ? dY : new Float64Array(gradient.length), { atol: 0 });
          }
        });
      }
    }

    test("sizes that are not the columns are refused", async () => {
      const gpu = await gpuOf(tier);
      const input = tensorOf(gpu, normals(6, 1), [1, 6], "f32");
      const attempt = runOp(gpu, [input], (tape, t) => splitColumns(tape, t, [4, 4])[0]!, []);
      expect(String(await attempt.catch((error: unknown) => error))).toContain("sizes 4 + 4 for 6 columns");
      gpu.free(input);
    });
  });
}
