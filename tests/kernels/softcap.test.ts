import { describe, expect, test } from "bun:test";
import { softcap } from "../../kernels/softcap/index.ts";
import { softcapBackwardReference, softcapReference } from "../../kernels/softcap/reference.ts";
import { expectClose, expectNear } from "../support/close.ts";
import { gpuOf, normals, runSeed, tensorOf, tiers } from "../support/gpu.ts";
import { differences, dot, runOp } from "../support/op.ts";

test("the reference's backward is the derivative of its forward", () => {
  const x = normals(30, runSeed, 40);
  const dY = normals(30, runSeed + 1);
  expectNear(
    softcapBackwardReference(x, 30, dY),
    differences((at) => dot(softcapReference(at, 30), dY), x),
    1e-7,
  );
});

for (const tier of tiers) {
  describe(`softcap, tier ${tier} (seed ${runSeed})`, () => {
    for (const shape of [[1], [17, 3], [257, 31]]) {
      test(`[${shape.join()}]`, async () => {
        const gpu = await gpuOf(tier);
        const size = shape.reduce((a, b) => a * b);
        const x = normals(size, runSeed, 40);
        const dY = normals(size, runSeed + 1);
        const run = await runOp(gpu, [tensorOf(gpu, x, shape, "f32")], (tape, t) => softcap(tape, t, 30), dY);
        expectClose(run.output, softcapReference(x, 30), { rtol: 2e-6 });
        expectClose(run.gradients[0]!, softcapBackwardReference(x, 30, dY), { rtol: 1e-5, atol: 1e-30 });
      });
    }

    test("small values pass through, huge ones are capped", async () => {
      const gpu = await gpuOf(tier);
      const x = [1e-6, -1e-3, 7.4, 7.6, 300, -1e4, 3e38, -3e38, 0];
      const run = await runOp(gpu, [tensorOf(gpu, x, [9], "f32")], (tape, t) => softcap(tape, t, 30), Array(9).fill(1));
      expectClose(run.output, [1e-6, -1e-3, 7.2534819, 7.4414843, 30, -30, 30, -30, 0], { rtol: 2e-6 });
      expectClose(run.gradients[0]!, [1, 1, 0.9415411, 0.9384715, 8.244615e-9, 0, 0, 0, 1], {
        rtol: 2e-5,
        atol: 1e-15,
      });
    });

    test("a cap of zero is refused", async () => {
      const gpu = await gpuOf(tier);
      const x = tensorOf(gpu, [1], [1], "f32");
      expect(
        String(await runOp(gpu, [], (tape) => softcap(tape, x, 0), []).catch((error: unknown) => error)),
      ).toContain("positive");
      gpu.free(x);
    });
  });
}
