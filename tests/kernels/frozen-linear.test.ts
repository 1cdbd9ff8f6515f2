/** Products with frozen weights of every kind that a checkpoint may hold, against f64. */
import { describe, expect, test } from "bun:test";
import { frozenForward, frozenInputGradient } from "../../kernels/lora-linear/portable.ts";
import { dequantizeRows, dequantizeTransposed, keepTransposed } from "../../kernels/matmul-matrix/index.ts";
import { matmulNNReference, matmulNTReference } from "../../kernels/matmul/reference.ts";
import { dequantize, freeWeight } from "../../kernels/nf4/index.ts";
import { sameBits } from "../formats/support.ts";
import { expectNear } from "../support/close.ts";
import { gpuOf, normals, rounded, runSeed, tensorOf, tiers } from "../support/gpu.ts";
import { nameOfKind, randomWeight, WEIGHT_KINDS } from "../support/weights.ts";

const TIMEOUT = 120_000;

for (const tier of tiers) {
  describe(`frozen weights, tier ${tier} (seed ${runSeed})`, () => {
    // f32: sums of up to 320 terms. f16: the weight and the result are each rounded to 2^-12 on average.
    const limit = tier === "f32" ? 2e-6 : 5e-4;
    for (const kind of WEIGHT_KINDS) {
      for (const [tokens, out, columns] of [
        [17, 36, 320],
        [5, 17, 257],
      ] as const) {
        test(
          `${nameOfKind(kind)} [${out},${columns}]: dequantized, multiplied, differentiated`,
          async () => {
            const gpu = await gpuOf(tier);
            const half = gpu.computeDtype;
            const { weight, values } = randomWeight(gpu, kind, [out, columns], runSeed + columns);
            const whole = gpu.alloc([out, columns], "f32", "whole");
            dequantize(gpu, weight, whole);
            expect(sameBits(await gpu.readFloats(whole), values)).toBe(true);

            const xv = rounded(normals(tokens * columns, runSeed + 1), half);
            const dv = rounded(normals(tokens * out, runSeed + 2), half);
            const before = rounded(normals(tokens * columns, runSeed + 3), half);
            const x = tensorOf(gpu, xv, [tokens, columns], half, "x");
            const dY = tensorOf(gpu, dv, [tokens, out], half, "dY");
            const dX = tensorOf(gpu, before, [tokens, columns], half, "dX");
            const y = gpu.alloc([tokens, out], half, "y");
            const wantY = matmulNTReference(xv, values, tokens, out, columns);
            const wantX = matmulNNReference(dv, values, tokens, columns, out);
            frozenForward(gpu, x, weight, y);
            expectNear(await gpu.readFloats(y), wantY, limit, "y");
            frozenInputGradient(gpu, dY, weight, dX, { accumulate: true });
            const sum = wantX.map((v, i) => v + before[i]!);
            expectNear(await gpu.readFloats(dX), sum, limit, "dX, added");
            if (out % 4 === 0) {
              frozenForward(gpu, x, weight, y, { rowLimit: 8 });
              expectNear(await gpu.readFloats(y), wantY, limit, "y in parts");
            }
            for (const tensor of [whole, x, dY, dX, y]) gpu.free(tensor);
            freeWeight(gpu, weight);
          },
          TIMEOUT,
        );
      }

      test.skipIf(tier === "f32")(
        `${nameOfKind(kind)}: operands of the matrix kernels`,
        async () => {
          const gpu = await gpuOf(tier);
          const [out, columns] = [128, 192];
          const { weight, values } = randomWeight(gpu, kind, [out, columns], runSeed + 7);
          const want = rounded(values, "f16");
          const rows = gpu.alloc([out, columns], "f16", "rows");
          const turned = gpu.alloc([columns, out], "f16", "turned");
          dequantizeRows(gpu, weight, rows);
          dequantizeTransposed(gpu, weight, turned);
          const across = want.map((_, i) => want[(i % out) * columns + Math.floor(i / out)]!);
          expect(sameBits(await gpu.readFloats(rows), Float32Array.from(want))).toBe(true);
          expect(sameBits(await gpu.readFloats(turned), Float32Array.from(across))).toBe(true);
          const kept = keepTransposed(gpu, weight);
          if (kept.transposedLayout === "rows") {
            expect(sameBits(await gpu.readFloats(kept.transposed!), Float32Array.from(across))).toBe(true);
          }
          for (const tensor of [rows, turned]) gpu.free(tensor);
          freeWeight(gpu, kept);
        },
        TIMEOUT,
      );
    }
  });
}
