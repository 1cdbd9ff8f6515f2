import { describe, expect, test } from "bun:test";
import { dropoutMask } from "../../kernels/dropout/reference.ts";
import { matmulNN, matmulNT, matmulTN, type MatmulOptions, variantOf } from "../../kernels/matmul/index.ts";
import { matmulNNReference, matmulNTReference, matmulTNReference } from "../../kernels/matmul/reference.ts";
import { expectNear, expectWithin } from "../support/close.ts";
import { gpuOf, normals, random, rounded, runSeed, tensorOf, tiers } from "../support/gpu.ts";
import { ENOUGH_TO_AVERAGE, storedErrors, sumErrors } from "../support/rounding.ts";

const products = {
  NT: {
    run: matmulNT,
    reference: matmulNTReference,
    a: (m: number, _n: number, k: number) => [m, k],
    b: (_m: number, n: number, k: number) => [n, k],
  },
  NN: {
    run: matmulNN,
    reference: matmulNNReference,
    a: (m: number, _n: number, k: number) => [m, k],
    b: (_m: number, n: number, k: number) => [k, n],
  },
  TN: {
    run: matmulTN,
    reference: matmulTNReference,
    a: (m: number, _n: number, k: number) => [k, m],
    b: (_m: number, n: number, k: number) => [k, n],
  },
};

/** Rows of four (vec4 loads), a sum long enough to be cut, and sizes that fit nothing (scalar loads). */
const even = [
  [66, 68, 36],
  [5, 100, 128],
  [64, 8, 1100],
] as const;
const odd = [
  [1, 1, 1],
  [17, 257, 33],
  [257, 3, 65],
] as const;

/** Pipelines compile for a second or more on a software adapter that has not seen them. */
const TIMEOUT = 120_000;

for (const tier of tiers) {
  for (const variant of ["direct", "tiled"] as const) {
    const own = variantOf(await gpuOf(tier)) === variant;
    // The variant that this device does not use is only checked in tier f32 and with vec4 loads.
    if (!own && tier !== "f32") continue;
    describe(`matmul, tier ${tier}, ${variant} (seed ${runSeed})`, () => {
      for (const [layout, { run, reference, a: aShape, b: bShape }] of Object.entries(products) as [
        keyof typeof products,
        (typeof products)["NT"],
      ][]) {
        for (const [m, n, k] of own ? [...even, ...odd] : even) {
          test(
            `${layout} [${m},${n}] over ${k}: f32 and half operands, set and add`,
            async () => {
              const gpu = await gpuOf(tier);
              const start = normals(m * n, runSeed + 3);
              // Operands: activations in the half type, f32 masters (read rounded), results in either.
              for (const [ta, tb, tc, accumulate] of [
                [gpu.computeDtype, "f32", gpu.computeDtype, true],
                [gpu.computeDtype, gpu.computeDtype, "f32", false],
              ] as const) {
                const av = normals(m * k, runSeed + 1);
                const bv = normals(n * k, runSeed + 2, 0.5);
                const a = tensorOf(gpu, rounded(av, ta), aShape(m, n, k), ta, "a");
                const b = tensorOf(gpu, rounded(bv, tb), bShape(m, n, k), tb, "b");
                const c = accumulate ? tensorOf(gpu, start, [m, n], tc, "c") : gpu.alloc([m, n], tc, "c");
                run(gpu, a, b, c, { scale: 0.75, accumulate, variant });
                const want = reference(rounded(av, gpu.computeDtype), rounded(bv, gpu.computeDtype), m, n, k);
                const before = rounded(start, tc);
                const total = want.map((v, i) => 0.75 * v + (accumulate ? before[i]! : 0));
                const got = await gpu.readFloats(c);
                // At worst: f32 masters are rounded as they are read (2^-11 of each product, unless the driver leaves it
                // out), the sum is formed in f32, and the result is rounded as it is stored (2^-11 of it). What C held
                // may cancel the product, so the first is counted from the terms and not from the result.
                const terms = reference(av.map(Math.abs), bv.map(Math.abs), m, n, k);
                const magnitudes = terms.map((v, i) => 0.75 * v + (accumulate ? Math.abs(before[i]!) : 0));
                const errors = sumErrors(magnitudes, k, tb === "f32" ? gpu.computeDtype : "f32");
                expectWithin(got, total, storedErrors(errors, total, tc), layout);
                // On average both are 2^-12, and f32 sums err at random.
                if (m * n >= ENOUGH_TO_AVERAGE) expectNear(got, total, tc === "f16" ? 5e-4 : 2e-6, layout);
                for (const tensor of [a, b, c]) gpu.free(tensor);
              }
            },
            TIMEOUT,
          );
        }

        // As a low-rank branch needs them: on x in x A^T, on the product in dU A, on x in dU^T x.
        const on = ({ NT: "a", NN: "c", TN: "b" } as const)[layout];
        if (own) {
          test(
            `${layout} with dropout on ${on} drops what the mask says`,
            async () => {
              const gpu = await gpuOf(tier);
              for (const [m, n, k] of [
                [21, 36, 52],
                [16, 8, 600],
              ] as const) {
                const av = rounded(normals(m * k, runSeed + 1), gpu.computeDtype);
                const bv = rounded(normals(n * k, runSeed + 2), gpu.computeDtype);
                const shape = { a: aShape(m, n, k), b: bShape(m, n, k), c: [m, n] }[on];
                const next = random(runSeed);
                const rowKeys = Array.from({ length: shape[0]! }, () => Math.floor(next() * 2 ** 32));
                const settings = { site: 3, seed: 99, p: 0.3 };
                const mask = dropoutMask(rowKeys, shape[1]!, settings);
                const masked = (values: Float32Array, name: string) =>
                  name === on ? values.map((v, i) => v * mask[i]!) : values;
                const want = reference(masked(av, "a"), masked(bv, "b"), m, n, k).map((v, i) =>
                  on === "c" ? v * mask[i]! : v,
                );
                const a = tensorOf(gpu, av, aShape(m, n, k), gpu.computeDtype, "a");
                const b = tensorOf(gpu, bv, bShape(m, n, k), gpu.computeDtype, "b");
                const keys = tensorOf(gpu, rowKeys, [rowKeys.length], "u32", "row keys");
                const c = gpu.alloc([m, n], "f32", "c");
                const options: MatmulOptions = { variant, dropout: { ...settings, on, rowKeys: keys } };
                run(gpu, a, b, c, options);
                // A driver may leave out the rounding of a masked operand to half (Mesa does): 2^-12 of each.
                expectNear(await gpu.readFloats(c), want, gpu.computeDtype === "f16" ? 4e-4 : 2e-6, on);
                for (const tensor of [a, b, c, keys]) gpu.free(tensor);
              }
            },
            TIMEOUT,
          );
        }
      }

      test(
        "columns of A and C: a product cut in two along the depth or the columns is the whole product",
        async () => {
          const gpu = await gpuOf(tier);
          const [m, n, k] = [9, 24, 40];
          const av = rounded(normals(m * k, runSeed + 1), gpu.computeDtype);
          const bv = rounded(normals(n * k, runSeed + 2), gpu.computeDtype);
          const a = tensorOf(gpu, av, [m, k], gpu.computeDtype, "a");
          const c = gpu.alloc([m, n], "f32", "c");
          const top = tensorOf(gpu, bv.slice(0, 8 * k), [8, k], gpu.computeDtype, "b 0-8");
          const rest = tensorOf(gpu, bv.slice(8 * k), [n - 8, k], gpu.computeDtype, "b 8-24");
          matmulNT(gpu, a, top, c, { variant });
          matmulNT(gpu, a, rest, c, { variant, cColumn: 8 });
          expectNear(await gpu.readFloats(c), matmulNTReference(av, bv, m, n, k), 2e-6);
          const upper = tensorOf(gpu, bv.slice(0, 16 * n), [16, n], gpu.computeDtype, "b rows 0-16");
          const lower = tensorOf(gpu, bv.slice(16 * n), [k - 16, n], gpu.computeDtype, "b rows 16-40");
          matmulNN(gpu, a, upper, c, { variant });
          matmulNN(gpu, a, lower, c, { variant, aColumn: 16, accumulate: true });
          expectNear(await gpu.readFloats(c), matmulNNReference(av, bv, m, n, k), 2e-6);
          for (const tensor of [a, c, top, rest, upper, lower]) gpu.free(tensor);
        },
        TIMEOUT,
      );
    });
  }

  test(`matmul, tier ${tier}: wrong shapes are refused by name`, async () => {
    const gpu = await gpuOf(tier);
    const a = gpu.alloc([4, 8], "f32", "left");
    const b = gpu.alloc([4, 12], "f32", "right");
    expect(() => matmulNT(gpu, a, b, a)).toThrow("left");
    expect(() => matmulTN(gpu, a, b, b)).toThrow("right");
    gpu.free(a);
    gpu.free(b);
  });
}
