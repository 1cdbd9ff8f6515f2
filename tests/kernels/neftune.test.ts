import { describe, expect, test } from "bun:test";
import { mix, uploadBatch } from "../../core/compute/batch.ts";
import { neftune } from "../../kernels/neftune/index.ts";
import { neftuneNoise } from "../../kernels/neftune/reference.ts";
import { packSamples } from "../../runtime/data/pack.ts";
import { expectClose } from "../support/close.ts";
import { gpuOf, normals, runSeed, tensorOf, tiers } from "../support/gpu.ts";

const sample = (index: number, length: number) => ({ index, inputIds: new Uint32Array(length), label: 0 });

test("noise is uniform, of the size that transformers gives it", () => {
  // transformers/integrations/neftune.py: uniform in alpha / sqrt(tokens x hidden size) either way.
  const [rows, columns, alpha, length] = [400, 130, 5, 20];
  const keys = Uint32Array.from({ length: rows }, (_, i) => Math.imul(i + 1, 0x9e3779b1));
  const magnitude = 5 / Math.sqrt(20 * 130);
  const noise = neftuneNoise(keys, new Array(rows).fill(length), columns, { alpha, seed: 42 });
  expect(Math.max(...noise)).toBeLessThanOrEqual(magnitude);
  expect(Math.max(...noise)).toBeGreaterThan(0.999 * magnitude);
  expect(Math.min(...noise)).toBeLessThan(-0.999 * magnitude);
  const mean = noise.reduce((sum, value) => sum + value, 0) / noise.length;
  const square = noise.reduce((sum, value) => sum + value ** 2, 0) / noise.length;
  // Five standard deviations of the mean of a uniform variable, whose variance is a third of the square of its limit.
  expect(Math.abs(mean)).toBeLessThan((5 * magnitude) / Math.sqrt(3 * noise.length));
  expect(square / (magnitude ** 2 / 3)).toBeCloseTo(1, 1);
});

for (const tier of tiers) {
  describe(`neftune, tier ${tier} (seed ${runSeed})`, () => {
    for (const columns of [1, 17, 64, 257]) {
      test(`C ${columns}: what the reference adds, by each sample's own length`, async () => {
        const gpu = await gpuOf(tier);
        const lengths = [3, 1, 9];
        const batch = uploadBatch(gpu, packSamples(lengths.map((length, i) => sample(i, length))), 7);
        const values = normals(13 * columns, runSeed);
        const h = tensorOf(gpu, values, [13, columns], "f32");
        neftune(gpu, h, batch, { alpha: 5, seed: 42 });
        const keys = lengths.flatMap((length, i) => Array.from({ length }, (_, position) => mix(7, i, position)));
        const perRow = lengths.flatMap((length) => new Array<number>(length).fill(length));
        const noise = neftuneNoise(keys, perRow, columns, { alpha: 5, seed: 42 });
        const want = Float64Array.from(noise, (value, i) => value + values[i]!);
        expectClose(await gpu.readFloats(h), want, { atol: 2e-6 });
        gpu.free(h);
        batch.free();
      });
    }

    test("a token's noise is the same however its batch is packed, and another in another step", async () => {
      const gpu = await gpuOf(tier);
      const noiseOf = async (indices: readonly number[], step: number): Promise<number[]> => {
        const batch = uploadBatch(gpu, packSamples(indices.map((index) => sample(index, 4))), step);
        const h = tensorOf(gpu, new Float32Array(indices.length * 4 * 8), [indices.length * 4, 8], "f32");
        neftune(gpu, h, batch, { alpha: 5, seed: 42 });
        const noise = await gpu.readFloats(h);
        gpu.free(h);
        batch.free();
        return [...noise];
      };
      const together = await noiseOf([0, 5], 3);
      expect(together.slice(32)).toEqual(await noiseOf([5], 3));
      expect(together.slice(0, 32)).not.toEqual(together.slice(32));
      expect(await noiseOf([5], 4)).not.toEqual(together.slice(32));
    });
  });
}
