import { describe, expect, test } from "bun:test";
import { countNonFinite } from "../../kernels/non-finite/index.ts";
import { countNonFiniteReference } from "../../kernels/non-finite/reference.ts";
import { gpuOf, normals, random, runSeed, tensorOf, tiers } from "../support/gpu.ts";

for (const tier of tiers) {
  describe(`countNonFinite, tier ${tier} (seed ${runSeed})`, () => {
    for (const dtype of ["f32", "f16"] as const) {
      for (const size of [1, 17, 257, 70_001]) {
        test(`${size} ${dtype}`, async () => {
          const gpu = await gpuOf(tier);
          const values = normals(size, runSeed);
          const next = random(runSeed + 1);
          for (const bad of [NaN, Infinity, -Infinity, -NaN]) values[Math.floor(next() * size)] = bad;
          values[size - 1] = Infinity;
          const tensor = tensorOf(gpu, values, [size], dtype);
          const counters = tensorOf(gpu, [5, 7, 9], [3], "u32");
          countNonFinite(gpu, tensor, counters, 1);
          const want = countNonFiniteReference(values);
          const read = async () => [...new Uint32Array((await gpu.readBytes(counters)).buffer)];
          expect(await read()).toEqual([5, 7 + want, 9]);
          // It adds; and finite values, the largest among them, do not count.
          const fine = tensorOf(
            gpu,
            values.map((v) => (Number.isFinite(v) ? v : dtype === "f16" ? -65504 : 3.4e38)),
            [size],
            dtype,
          );
          countNonFinite(gpu, tensor, counters, 1);
          countNonFinite(gpu, fine, counters, 2);
          expect(await read()).toEqual([5, 7 + 2 * want, 9]);
          for (const t of [tensor, counters, fine]) gpu.free(t);
        });
      }
    }

    test("what lies behind the last half of a word does not count", async () => {
      const gpu = await gpuOf(tier);
      const pair = tensorOf(gpu, [1, NaN], [2], "f16");
      const counters = tensorOf(gpu, [0], [1], "u32");
      countNonFinite(gpu, { ...pair, shape: [1] }, counters, 0);
      expect([...new Uint32Array((await gpu.readBytes(counters)).buffer)]).toEqual([0]);
      expect(() => countNonFinite(gpu, pair, counters, 1)).toThrow("no slot 1");
      gpu.free(pair);
      gpu.free(counters);
    });
  });
}
