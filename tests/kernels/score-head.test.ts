import { describe, expect, test } from "bun:test";
import { ParameterSet } from "../../core/compute/parameters.ts";
import { scoreHead } from "../../kernels/score-head/index.ts";
import { linearBackwardReference, linearReference } from "../../kernels/score-head/reference.ts";
import { expectNear } from "../support/close.ts";
import { gpuOf, normals, runSeed, tensorOf, tiers } from "../support/gpu.ts";
import { differences, dot, runOp } from "../support/op.ts";

test("the reference's backward is the derivative of its forward", () => {
  const [x, weight, dY] = [normals(2 * 5, runSeed), normals(3 * 5, runSeed + 1), normals(2 * 3, runSeed + 2)];
  const { dX, dWeight } = linearBackwardReference(x, weight, 5, dY);
  expectNear(
    dX,
    differences((at) => dot(linearReference(at, weight, 5), dY), x),
    1e-8,
  );
  expectNear(
    dWeight,
    differences((at) => dot(linearReference(x, at, 5), dY), weight),
    1e-8,
  );
});

test("the reference multiplies by rows of the weight", () => {
  expect([...linearReference([1, 2, 3, 4], [1, 0, 10, 1, 0, 0], 2)]).toEqual([1, 12, 0, 3, 34, 0]);
});

for (const tier of tiers) {
  describe(`linear, tier ${tier} (seed ${runSeed})`, () => {
    for (const [samples, columns, labels] of [
      [1, 1, 1],
      [17, 257, 3],
      [4, 128, 3],
      [2, 3584, 70],
    ] as const) {
      test(`[${samples},${columns}] by ${labels} labels`, async () => {
        const gpu = await gpuOf(tier);
        const x = normals(samples * columns, runSeed);
        const initial = normals(labels * columns, runSeed + 1, 0.1);
        const dY = normals(samples * labels, runSeed + 2);
        // The head lies behind another parameter, as it does after an adapter's.
        const parameters = new ParameterSet(gpu, [
          { name: "before", shape: [3], initial: () => Float32Array.of(1, 2, 3) },
          { name: "score.weight", shape: [labels, columns], initial: () => initial },
        ]);
        const weight = parameters.get("score.weight");
        const want = linearBackwardReference(x, initial, columns, dY);
        const run = async () =>
          runOp(gpu, [tensorOf(gpu, x, [samples, columns], "f32")], (tape, t) => scoreHead(tape, t, weight), dY);
        const first = await run();
        expectNear(first.output, linearReference(x, initial, columns), 1e-6);
        expectNear(first.gradients[0]!, want.dX, 1e-6);
        const once = await parameters.readGradients();
        expectNear(once.get("score.weight")!, want.dWeight, 1e-6);
        expect([...once.get("before")!]).toEqual([0, 0, 0]);
        // A second pass adds.
        await run();
        const twice = await parameters.readGradients();
        expectNear(
          twice.get("score.weight")!,
          want.dWeight.map((v) => 2 * v),
          1e-6,
        );
        for (const slab of parameters.slabs) {
          gpu.free(slab.value);
          gpu.free(slab.grad);
        }
      });
    }
  });
}
