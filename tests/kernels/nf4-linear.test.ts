import { describe, test } from "bun:test";
import { dequantize4bit, nf4CodeBook, type Packed4bit, quantizeAbsmax, quantize4bit } from "../../core/formats/nf4.ts";
import { frozenForwardReference, frozenInputGradientReference } from "../../kernels/lora-linear/portable-reference.ts";
import { frozenForward, frozenInputGradient } from "../../kernels/lora-linear/portable.ts";
import { matmulNTReference } from "../../kernels/matmul/reference.ts";
import { freeWeight, upload4bit } from "../../kernels/nf4/index.ts";
import { expectNear, expectWithin } from "../support/close.ts";
import { gpuOf, normals, rounded, runSeed, tensorOf, tiers } from "../support/gpu.ts";
import { ENOUGH_TO_AVERAGE, storedErrors, sumErrors } from "../support/rounding.ts";

function randomNf4(outFeatures: number, inFeatures: number): Packed4bit {
  const { codes, absmax } = quantize4bit(normals(outFeatures * inFeatures, runSeed + outFeatures, 0.1));
  return {
    shape: [outFeatures, inFeatures],
    dtype: "bfloat16",
    codes,
    codeBook: nf4CodeBook,
    ...quantizeAbsmax(absmax),
  };
}

/** Pipelines compile for a second or more on a software adapter that has not seen them. */
const TIMEOUT = 120_000;

for (const tier of tiers) {
  describe(`nf4-linear, tier ${tier} (seed ${runSeed})`, () => {
    // f32: sums of up to 320 terms. f16: the weight and the result are each rounded to 2^-12 on average.
    const limit = tier === "f32" ? 2e-6 : 5e-4;
    for (const [tokens, out, columns] of [
      [1, 3, 64],
      [17, 36, 320],
      [257, 64, 128],
      [5, 17, 257],
    ] as const) {
      test(
        `[${tokens},${columns}] through a weight [${out},${columns}], forward and input gradient`,
        async () => {
          const gpu = await gpuOf(tier);
          const raw = randomNf4(out, columns);
          const weight = upload4bit(gpu, raw, "test");
          const xv = rounded(normals(tokens * columns, runSeed + 1), gpu.computeDtype);
          const dv = rounded(normals(tokens * out, runSeed + 2), gpu.computeDtype);
          const before = rounded(normals(tokens * columns, runSeed + 3), gpu.computeDtype);
          const x = tensorOf(gpu, xv, [tokens, columns], gpu.computeDtype, "x");
          const dY = tensorOf(gpu, dv, [tokens, out], gpu.computeDtype, "dY");
          const dX = tensorOf(gpu, before, [tokens, columns], gpu.computeDtype, "dX");
          const y = gpu.alloc([tokens, out], gpu.computeDtype, "y");
          const wantY = frozenForwardReference(xv, raw);
          const wantX = frozenInputGradientReference(dv, raw);

          frozenForward(gpu, x, weight, y);
          const gotY = await gpu.readFloats(y);
          // At worst: weights are rounded as they are unpacked (2^-11 of each product, unless the driver leaves it out), the
          // sum is formed in f32, and the result is rounded as it is stored (2^-11 of it).
          const terms = matmulNTReference(xv.map(Math.abs), dequantize4bit(raw).map(Math.abs), tokens, out, columns);
          expectWithin(
            gotY,
            wantY,
            storedErrors(sumErrors(terms, columns, gpu.computeDtype), wantY, gpu.computeDtype),
            "y",
          );
          if (tokens * out >= ENOUGH_TO_AVERAGE) expectNear(gotY, wantY, limit, "y");
          frozenInputGradient(gpu, dY, weight, dX, { accumulate: true });
          expectNear(
            await gpu.readFloats(dX),
            wantX.map((v, i) => v + before[i]!),
            limit,
            "dX, added",
          );
          frozenInputGradient(gpu, dY, weight, dX);
          expectNear(await gpu.readFloats(dX), wantX, limit, "dX");

          if (out % 4 === 0) {
            // In parts of eight rows, as a weight larger than a binding is multiplied.
            frozenForward(gpu, x, weight, y, { rowLimit: 8 });
            expectNear(await gpu.readFloats(y), wantY, limit, "y in parts");
            frozenInputGradient(gpu, dY, weight, dX, { rowLimit: 13 });
            // Each part's sum is rounded to dX's type before the next is added.
            expectNear(await gpu.readFloats(dX), wantX, 3 * limit, "dX in parts");
          }
          for (const tensor of [x, dY, dX, y]) gpu.free(tensor);
          freeWeight(gpu, weight);
        },
        TIMEOUT,
      );
    }
  });
}
