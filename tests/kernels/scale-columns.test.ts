import { describe, expect, test } from "bun:test";
import { ParameterSet } from "../../core/compute/parameters.ts";
import { scaleColumns } from "../../kernels/scale-columns/index.ts";
import { scaleColumnsBackward, scaleColumnsReference } from "../../kernels/scale-columns/reference.ts";
import { expectClose, expectNear, relativeL2 } from "../support/close.ts";
import { gpuOf, normals, rounded, runSeed, tensorOf, tiers } from "../support/gpu.ts";
import { differences, dot, halfTolerance, runOp } from "../support/op.ts";

test("the reference's backward is its derivative", () => {
  const [x, dY] = [normals(3 * 5, runSeed), normals(3 * 5, runSeed + 1)];
  const [factor, divisor] = [normals(5, runSeed + 2), normals(5, runSeed + 3).map((v) => 1 + Math.abs(v))];
  const { dX, dFactor } = scaleColumnsBackward(x, factor, divisor, dY);
  const loss = (at: ArrayLike<number>, by: ArrayLike<number>): number =>
    dot(scaleColumnsReference(at, by, divisor), dY);
  expectNear(
    dX,
    differences((at) => loss(at, factor), x),
    1e-8,
  );
  expectNear(
    dFactor,
    differences((by) => loss(x, by), factor),
    1e-8,
  );
});

for (const tier of tiers) {
  describe(`scaleColumns, tier ${tier} (seed ${runSeed})`, () => {
    for (const [rows, columns, divided] of [
      [1, 1, false],
      [17, 257, true],
      [257, 64, false],
      [300, 132, true],
    ] as const) {
      test(`[${rows},${columns}]${divided ? ", divided" : ""}`, async () => {
        const gpu = await gpuOf(tier);
        const x = rounded(normals(rows * columns, runSeed), gpu.computeDtype);
        const dY = rounded(normals(rows * columns, runSeed + 1), gpu.computeDtype);
        const factor = normals(columns, runSeed + 2);
        const divisor = normals(columns, runSeed + 3).map((v) => (divided ? 1 + Math.abs(v) : 1));
        const set = new ParameterSet(gpu, [{ name: "factor", shape: [columns, 1], initial: () => factor }]);
        const parameter = set.get("factor");
        const input = tensorOf(gpu, x, [rows, columns], gpu.computeDtype);
        const run = await runOp(
          gpu,
          [input],
          (tape, t) => {
            if (!divided) return scaleColumns(tape, t, parameter);
            const copy = tape.alloc([columns], "f32", "divisor");
            gpu.write(copy, divisor);
            return scaleColumns(tape, t, parameter, copy);
          },
          dY,
        );
        const want = scaleColumnsBackward(x, factor, divisor, dY);
        expectClose(run.output, scaleColumnsReference(x, factor, divisor), halfTolerance(gpu.computeDtype));
        expectClose(run.gradients[0]!, want.dX, halfTolerance(gpu.computeDtype));
        const gradient = (await set.readGradients()).get("factor")!;
        expect(relativeL2(gradient, want.dFactor)).toBeLessThan(1e-5);
        for (const { value, grad } of set.slabs) for (const tensor of [value, grad]) gpu.free(tensor);
      });
    }
  });
}
