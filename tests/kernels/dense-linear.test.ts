import { describe, test } from "bun:test";
import { denseLinear } from "../../kernels/lora-linear/dense.ts";
import { matmulNNReference, matmulNTReference } from "../../kernels/matmul/reference.ts";
import { expectNear, expectWithin } from "../support/close.ts";
import { gpuOf, normals, rounded, runSeed, tensorOf, tiers } from "../support/gpu.ts";
import { runOp } from "../support/op.ts";
import { ENOUGH_TO_AVERAGE, storedErrors, sumErrors } from "../support/rounding.ts";

for (const tier of tiers) {
  describe(`dense-linear, tier ${tier} (seed ${runSeed})`, () => {
    const limit = tier === "f32" ? 2e-6 : 5e-4;
    for (const [tokens, out, columns] of [
      [1, 3, 64],
      [17, 36, 257],
      [257, 64, 128],
    ] as const) {
      test(`[${tokens},${columns}] through a weight [${out},${columns}] and a bias, forward and input gradient`, async () => {
        const gpu = await gpuOf(tier);
        const xv = rounded(normals(tokens * columns, runSeed + 1), gpu.computeDtype);
        const wv = rounded(normals(out * columns, runSeed + 2, 0.1), gpu.computeDtype);
        const dv = rounded(normals(tokens * out, runSeed + 3), gpu.computeDtype);
        const bv = normals(out, runSeed + 4);
        const x = tensorOf(gpu, xv, [tokens, columns], gpu.computeDtype, "x");
        const weight = tensorOf(gpu, wv, [out, columns], gpu.computeDtype, "weight");
        const bias = tensorOf(gpu, bv, [out], "f32", "bias");
        const ran = await runOp(gpu, [x], (tape, input) => denseLinear(tape, input, weight, bias), dv);
        const product = matmulNTReference(xv, wv, tokens, out, columns);
        const wantY = product.map((value, i) => value + bv[i % out]!);
        // At worst: f32 sums, rounded as they are stored (2^-11 of the product), then rounded with the bias added (2^-11
        // of the sum, which may be the smaller).
        const terms = matmulNTReference(xv.map(Math.abs), wv.map(Math.abs), tokens, out, columns);
        const stored = storedErrors(sumErrors(terms, columns), product, gpu.computeDtype);
        const summed = stored.map((e, i) => e + 2 ** -24 * (Math.abs(wantY[i]!) + e));
        expectWithin(ran.output, wantY, storedErrors(summed, wantY, gpu.computeDtype), "y");
        if (tokens * out >= ENOUGH_TO_AVERAGE) expectNear(ran.output, wantY, limit, "y");
        expectNear(ran.gradients[0]!, matmulNNReference(dv, wv, tokens, columns, out), limit, "dX");
        gpu.free(weight);
        gpu.free(bias);
      }, 120_000);
    }
  });
}
