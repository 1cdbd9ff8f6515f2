import { describe, expect, test } from "bun:test";
import { createSampler, permutation } from "../../runtime/data/sampler.ts";

const base = { size: 103, samplesPerStep: 8, seed: 42 };
const epochOf = (sampler: ReturnType<typeof createSampler>, epoch: number) =>
  Array.from({ length: sampler.stepsPerEpoch }, (_, i) => [...sampler.batch(epoch * sampler.stepsPerEpoch + i)]);

describe("permutation", () => {
  test.each([1, 2, 3, 17, 256, 1000])("of %d holds every row once", (size) => {
    expect([...permutation(size, 1, 0)].sort((a, b) => a - b)).toEqual(Array.from({ length: size }, (_, i) => i));
  });

  test("is fixed by seed and epoch, and differs with either", () => {
    const texts = [
      permutation(50, 1, 0),
      permutation(50, 1, 1),
      permutation(50, 2, 0),
      permutation(50, 2 ** 32 + 1, 0),
    ].map(String);
    expect(String(permutation(50, 1, 0))).toBe(texts[0]!);
    expect(new Set(texts).size).toBe(4);
  });

  test("is uniform: each of the 24 orders of 4 comes up as often (chi-square, 23 degrees, p > 1e-4)", () => {
    const counts = new Map<string, number>();
    for (let seed = 0; seed < 24_000; seed++) {
      const key = String(permutation(4, seed, 3));
      counts.set(key, (counts.get(key) ?? 0) + 1);
    }
    const chi = [...counts.values()].reduce((sum, count) => sum + (count - 1000) ** 2 / 1000, 0);
    expect(counts.size).toBe(24);
    expect(chi).toBeLessThan(56.2);
  });
});

describe("sampler", () => {
  test("covers every row once an epoch, in ceil(size / samplesPerStep) steps, the last one short", () => {
    const sampler = createSampler({ ...base, numTrainEpochs: 2 });
    expect([sampler.stepsPerEpoch, sampler.totalSteps]).toEqual([13, 26]);
    const epochs = [epochOf(sampler, 0), epochOf(sampler, 1)];
    for (const batches of epochs) {
      expect(batches.map(({ length }) => length)).toEqual([...Array(12).fill(8), 7]);
      expect(batches.flat().sort((a, b) => a - b)).toEqual(Array.from({ length: 103 }, (_, i) => i));
    }
    expect(epochs[0]).not.toEqual(epochs[1]!);
    expect(epochs[1]!.flat()).toEqual([...sampler.order(1)]);
  });

  test("a step's batch does not depend on the steps before it", () => {
    const [walked, jumped] = [createSampler({ ...base, maxSteps: 40 }), createSampler({ ...base, maxSteps: 40 })];
    const batches = Array.from({ length: 40 }, (_, step) => [...walked.batch(step)]);
    for (const step of [39, 0, 25, 26, 13, 12]) expect([...jumped.batch(step)]).toEqual(batches[step]!);
    expect([...createSampler({ ...base, maxSteps: 40 }).batches(12)].map((rows) => [...rows])).toEqual(
      batches.slice(12),
    );
  });

  test("without shuffling, rows come as they stand and wrap at the epoch", () => {
    const sampler = createSampler({ size: 5, samplesPerStep: 2, seed: 0, shuffle: false, maxSteps: 5 });
    expect(Array.from({ length: 5 }, (_, step) => [...sampler.batch(step)])).toEqual([
      [0, 1],
      [2, 3],
      [4],
      [0, 1],
      [2, 3],
    ]);
    expect(sampler.totalSteps).toBe(5);
  });

  test("the seed's run: 77,877 rows by 32 are 2,434 steps, the last of 21 samples", () => {
    const sampler = createSampler({ size: 77_877, samplesPerStep: 32, seed: 42 });
    expect(sampler.totalSteps).toBe(2434);
    expect(sampler.batch(2433).length).toBe(21);
  });

  test("fractional epochs round up to a step; a batch may be changed without harm", () => {
    expect(createSampler({ ...base, numTrainEpochs: 0.5 }).totalSteps).toBe(7);
    const sampler = createSampler(base);
    const first = [...sampler.batch(0)];
    sampler.batch(0).fill(9);
    expect([...sampler.batch(0)]).toEqual(first);
  });

  test("options that make no sense are told together", () => {
    const wrong = { size: 0, samplesPerStep: 1.5, seed: -1, numTrainEpochs: 0 };
    expect(() => createSampler(wrong)).toThrow(/4 problems[^]*size[^]*samplesPerStep[^]*seed[^]*numTrainEpochs/);
  });
});
