import { describe, expect, test } from "bun:test";
import { Tape } from "../../core/compute/tape.ts";
import { dropout, dropoutThreshold } from "../../kernels/dropout/index.ts";
import { dropoutDraws, dropoutMask } from "../../kernels/dropout/reference.ts";
import { expectClose } from "../support/close.ts";
import { gpuOf, normals, random, rounded, runSeed, tensorOf, tiers } from "../support/gpu.ts";
import { halfTolerance, runOp } from "../support/op.ts";

/** `n` row keys as batches have them: any 32-bit numbers. */
function keys(n: number, seed = runSeed): Uint32Array {
  const next = random(seed);
  return Uint32Array.from({ length: n }, () => Math.floor(next() * 2 ** 32));
}

/** How far from independent two masks of kept probability 1 - p are, in standard deviations. */
function correlation(a: Float64Array, b: Float64Array, p: number): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += ((a[i] === 0 ? 1 : 0) - p) * ((b[i] === 0 ? 1 : 0) - p);
  return sum / (p * (1 - p)) / Math.sqrt(a.length);
}

test("draws are pcg4d's", () => {
  // The definition, written out again in whole numbers of any size.
  const M = 1n << 32n;
  for (const state of [[0, 0, 0, 0], [1, 2, 3, 4], [...keys(4)]]) {
    let [x, y, z, w] = state.map((u) => (BigInt(u) * 1664525n + 1013904223n) % M) as [bigint, bigint, bigint, bigint];
    for (let round = 0; round < 2; round++) {
      x = (x + y * w) % M;
      y = (y + z * x) % M;
      z = (z + x * y) % M;
      w = (w + y * z) % M;
      if (round === 0) [x, y, z, w] = [x ^ (x >> 16n), y ^ (y >> 16n), z ^ (z >> 16n), w ^ (w >> 16n)];
    }
    const [rowKey, site, column4, seed] = state as [number, number, number, number];
    expect([...dropoutDraws(rowKey, site, column4, seed)]).toEqual([x, y, z, w].map(Number));
  }
});

test("a probability becomes a threshold", () => {
  expect(dropoutThreshold(0)).toBe(0);
  expect(dropoutThreshold(0.5)).toBe(2 ** 31);
  expect(dropoutThreshold(0.05)).toBe(214748365);
  for (const p of [1, -0.1, NaN]) expect(() => dropoutThreshold(p)).toThrow("[0, 1)");
});

test("masks drop the share they should, alike in every column of four", () => {
  for (const p of [0.05, 0.1, 0.5]) {
    const [rows, columns] = [500, 128];
    const mask = dropoutMask(keys(rows), columns, { site: 3, seed: 42, p });
    for (let k = 0; k < 4; k++) {
      const part = mask.filter((_, i) => i % 4 === k);
      const dropped = part.filter((v) => v === 0).length;
      // Five standard deviations of a binomial count: passes but once in two million.
      expect(Math.abs(dropped - part.length * p)).toBeLessThan(5 * Math.sqrt(part.length * p * (1 - p)));
      expect(part.find((v) => v !== 0)).toBeCloseTo(1 / (1 - p), 12);
    }
  }
});

test("masks of other rows, sites, seeds and columns are independent", () => {
  const [rows, columns, p] = [400, 64, 0.3];
  const rowKeys = keys(rows);
  const base = dropoutMask(rowKeys, columns, { site: 0, seed: 42, p });
  for (let site = 1; site < 40; site++) {
    expect(Math.abs(correlation(base, dropoutMask(rowKeys, columns, { site, seed: 42, p }), p))).toBeLessThan(5);
  }
  for (const seed of [0, 1, 41, 43]) {
    expect(Math.abs(correlation(base, dropoutMask(rowKeys, columns, { site: 0, seed, p }), p))).toBeLessThan(5);
  }
  // Neighbouring keys are the worst that keys could be.
  const near = dropoutMask(
    Uint32Array.from({ length: rows + 1 }, (_, i) => i),
    columns,
    { site: 0, seed: 42, p },
  );
  expect(Math.abs(correlation(near.subarray(0, rows * columns), near.subarray(columns), p))).toBeLessThan(5);
  for (const lag of [1, 2, 3, 4, 8]) {
    expect(Math.abs(correlation(base.subarray(0, base.length - lag), base.subarray(lag), p))).toBeLessThan(5);
  }
});

for (const tier of tiers) {
  describe(`dropout, tier ${tier} (seed ${runSeed})`, () => {
    for (const [rows, columns] of [
      [1, 1],
      [17, 257],
      [257, 128],
    ] as const) {
      test(`[${rows},${columns}]`, async () => {
        const gpu = await gpuOf(tier);
        const x = rounded(normals(rows * columns, runSeed), gpu.computeDtype);
        const dY = rounded(normals(rows * columns, runSeed + 1), gpu.computeDtype);
        const rowKeys = keys(rows);
        const keyTensor = tensorOf(gpu, rowKeys, [rows], "u32");
        const input = tensorOf(gpu, x, [rows, columns], gpu.computeDtype);
        const draw = { site: 7, seed: runSeed, p: 0.25 };
        const run = await runOp(gpu, [input], (tape, t) => dropout(tape, t, { ...draw, rowKeys: keyTensor }), dY);
        const mask = dropoutMask(rowKeys, columns, draw);
        expectClose(
          run.output,
          mask.map((m, i) => m * x[i]!),
          halfTolerance(gpu.computeDtype),
        );
        expectClose(
          run.gradients[0]!,
          mask.map((m, i) => m * dY[i]!),
          halfTolerance(gpu.computeDtype),
        );
        // The very mask: an element is zero exactly where it should be.
        expect([...run.output].map((v, i) => v === 0 && x[i] !== 0)).toEqual(
          [...mask].map((m, i) => m === 0 && x[i] !== 0),
        );
        gpu.free(keyTensor);
      });
    }

    test("a row's mask does not depend on its place or its batch", async () => {
      const gpu = await gpuOf(tier);
      const rowKeys = keys(6);
      const draw = { site: 2, seed: 9, p: 0.5 };
      const maskOf = async (order: readonly number[]) => {
        const keyTensor = tensorOf(
          gpu,
          order.map((i) => rowKeys[i]!),
          [order.length],
          "u32",
        );
        const ones = Array(order.length * 64).fill(1);
        const input = tensorOf(gpu, ones, [order.length, 64], gpu.computeDtype);
        const { output } = await runOp(
          gpu,
          [input],
          (tape, t) => dropout(tape, t, { ...draw, rowKeys: keyTensor }),
          ones,
        );
        gpu.free(keyTensor);
        return order.map((_, row) => [...output.subarray(row * 64, row * 64 + 64)]);
      };
      const whole = await maskOf([0, 1, 2, 3, 4, 5]);
      const part = await maskOf([4, 0]);
      expect(part).toEqual([whole[4]!, whole[0]!]);
    });

    test("p = 0 is the identity", async () => {
      const gpu = await gpuOf(tier);
      const keyTensor = tensorOf(gpu, [1], [1], "u32");
      const input = tensorOf(gpu, [1, 2, 3, 4], [1, 4], gpu.computeDtype);
      const tape = new Tape(gpu);
      expect(dropout(tape, input, { rowKeys: keyTensor, site: 0, seed: 0, p: 0 })).toBe(input);
      tape.close();
      gpu.free(keyTensor);
      gpu.free(input);
    });
  });
}
