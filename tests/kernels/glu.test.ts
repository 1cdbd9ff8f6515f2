import { describe, expect, test } from "bun:test";
import { glu } from "../../kernels/glu/index.ts";
import { gegluBackwardReference, gegluReference } from "../../kernels/glu/reference.ts";
import { expectClose, expectNear } from "../support/close.ts";
import { gpuOf, normals, rounded, runSeed, tensorOf, tiers } from "../support/gpu.ts";
import { differences, dot, halfTolerance, runOp } from "../support/op.ts";

const activations = ["gelu_tanh", "silu"] as const;

test("the reference gives torch's values", () => {
  // torch.nn.functional.gelu(x, approximate="tanh") and silu(x) at -1, 0, 1, 2
  expectClose(gegluReference([-1, 0, 1, 2], [1, 1, 1, 1], "gelu_tanh"), [-0.158808, 0, 0.841192, 1.954598], {
    atol: 5e-7,
  });
  expectClose(gegluReference([-1, 0, 1, 2], [1, 1, 1, 1], "silu"), [-0.268941, 0, 0.731059, 1.761594], { atol: 5e-7 });
});

test("the reference's backward is the derivative of its forward", () => {
  const [gate, up, dY] = [0, 1, 2].map((i) => normals(20, runSeed + i, 2)) as [
    Float32Array,
    Float32Array,
    Float32Array,
  ];
  for (const activation of activations) {
    const { dGate, dUp } = gegluBackwardReference(gate, up, activation, dY);
    expectNear(
      dGate,
      differences((at) => dot(gegluReference(at, up, activation), dY), gate),
      1e-8,
    );
    expectNear(
      dUp,
      differences((at) => dot(gegluReference(gate, at, activation), dY), up),
      1e-8,
    );
  }
});

for (const tier of tiers) {
  describe(`geglu, tier ${tier} (seed ${runSeed})`, () => {
    for (const activation of activations) {
      for (const [rows, columns] of [
        [1, 1],
        [17, 257],
        [33, 512],
      ] as const) {
        test(`${activation} [${rows},${columns}]`, async () => {
          const gpu = await gpuOf(tier);
          const size = rows * columns;
          const gate = rounded(normals(size, runSeed, 3), gpu.computeDtype);
          const up = rounded(normals(size, runSeed + 1, 3), gpu.computeDtype);
          const dY = rounded(normals(size, runSeed + 2), gpu.computeDtype);
          const inputs = [gate, up].map((values) => tensorOf(gpu, values, [rows, columns], gpu.computeDtype));
          const run = await runOp(gpu, inputs, (tape, g, u) => glu(tape, g, u, activation), dY);
          const want = gegluBackwardReference(gate, up, activation, dY);
          expectClose(run.output, gegluReference(gate, up, activation), halfTolerance(gpu.computeDtype));
          expectClose(run.gradients[0]!, want.dGate, halfTolerance(gpu.computeDtype));
          expectClose(run.gradients[1]!, want.dUp, halfTolerance(gpu.computeDtype));
        });
      }

      test(`${activation} of large arguments is the identity or zero`, async () => {
        const gpu = await gpuOf(tier);
        const gate = [60000, 1000, 100, 20, -20, -100, -1000, -60000];
        const ones = Array(8).fill(1);
        const inputs = [gate, ones].map((values) => tensorOf(gpu, values, [1, 8], gpu.computeDtype));
        const run = await runOp(gpu, inputs, (tape, g, u) => glu(tape, g, u, activation), ones);
        expectClose(run.output, [60000, 1000, 100, 20, 0, 0, 0, 0], { rtol: 1e-6, atol: 1e-6 });
        expectClose(run.gradients[0]!, [1, 1, 1, 1, 0, 0, 0, 0], { atol: 1e-6 });
      });
    }

    test("dtypes must match", async () => {
      const gpu = await gpuOf(tier);
      const gate = tensorOf(gpu, [1], [1, 1], "f32");
      const up = tensorOf(gpu, [1], [1, 1], "u32");
      expect(
        String(await runOp(gpu, [], (tape) => glu(tape, gate, up), []).catch((error: unknown) => error)),
      ).toContain("expected [1,1] f32");
      gpu.free(gate);
      gpu.free(up);
    });
  });
}
