import { describe, expect, test } from "bun:test";
import { addBias, addResidual, addScaled } from "../../kernels/add/index.ts";
import { addReference } from "../../kernels/add/reference.ts";
import { expectClose } from "../support/close.ts";
import { gpuOf, normals, rounded, runSeed, tensorOf, tiers } from "../support/gpu.ts";
import { halfTolerance, runOp } from "../support/op.ts";

for (const tier of tiers) {
  describe(`sums on the tape, tier ${tier} (seed ${runSeed})`, () => {
    for (const [rows, columns] of [
      [1, 1],
      [17, 257],
      [33, 64],
    ] as const) {
      const size = rows * columns;
      const shape = [rows, columns];

      test(`residual [${rows},${columns}]`, async () => {
        const gpu = await gpuOf(tier);
        const h = normals(size, runSeed);
        const x = rounded(normals(size, runSeed + 1), gpu.computeDtype);
        const dY = rounded(normals(size, runSeed + 3), gpu.computeDtype);
        const tensors = [tensorOf(gpu, h, shape, "f32"), tensorOf(gpu, x, shape, gpu.computeDtype)];
        const run = await runOp(gpu, tensors, (tape, a, b) => addResidual(tape, a, b), dY);
        expectClose(run.output, addReference(h, x), { rtol: 2 ** -23, atol: 1e-7 });
        expect(run.gradients).toEqual([dY, dY]);
      });

      test(`bias [${rows},${columns}]`, async () => {
        const gpu = await gpuOf(tier);
        const x = rounded(normals(size, runSeed + 1), gpu.computeDtype);
        const bias = normals(columns, runSeed + 2);
        const dY = rounded(normals(size, runSeed + 3), gpu.computeDtype);
        const spread = Array.from({ length: size }, (_, i) => bias[i % columns]!);
        const biasTensor = tensorOf(gpu, bias, [columns], "f32");
        const input = tensorOf(gpu, x, shape, gpu.computeDtype);
        const run = await runOp(gpu, [input], (tape, a) => addBias(tape, a, biasTensor), dY);
        expectClose(run.output, addReference(x, spread), halfTolerance(gpu.computeDtype));
        expect(run.gradients).toEqual([dY]);
        gpu.free(biasTensor);
      });

      test(`a multiple [${rows},${columns}]`, async () => {
        const gpu = await gpuOf(tier);
        const a = rounded(normals(size, runSeed), gpu.computeDtype);
        const b = rounded(normals(size, runSeed + 1), gpu.computeDtype);
        const dY = rounded(normals(size, runSeed + 3), gpu.computeDtype);
        const tensors = [a, b].map((values) => tensorOf(gpu, values, shape, gpu.computeDtype));
        const run = await runOp(gpu, tensors, (tape, s, t) => addScaled(tape, s, t, -0.5), dY);
        const halves = b.map((value) => -0.5 * value);
        expectClose(run.output, addReference(a, halves), halfTolerance(gpu.computeDtype));
        expect(run.gradients[0]).toEqual(dY);
        expectClose(
          run.gradients[1]!,
          dY.map((value) => -0.5 * value),
          halfTolerance(gpu.computeDtype),
        );
      });
    }
  });
}
