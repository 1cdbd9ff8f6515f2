import { describe, expect, test } from "bun:test";
import {
  splitMicroBatches,
  lengthSortedBatches,
  packSamples,
  restoreOrder,
  type Sample,
} from "../../runtime/data/pack.ts";
import { permutation } from "../../runtime/data/sampler.ts";

/** Reproducible cases: lengths 1..300, budgets from below the longest to above the sum. */
const cases = Array.from({ length: 200 }, (_, seed) => {
  const count = 1 + (permutation(40, seed, 1)[0] ?? 0);
  const lengths = Array.from(permutation(300, seed, 2).slice(0, count), (value) => value + 1);
  const maxTokens = 1 + permutation(2000, seed, 3)[0]!;
  const maxSamples = seed % 3 === 0 ? undefined : 1 + (seed % 7);
  return { lengths, maxTokens, maxSamples };
});

const total = (lengths: readonly number[], batch: readonly number[]) => batch.reduce((sum, i) => sum + lengths[i]!, 0);

describe.each([
  ["splitMicroBatches", splitMicroBatches],
  ["lengthSortedBatches", lengthSortedBatches],
] as const)("%s", (_, cut) => {
  test("holds every sample once, within budget and count; only a longer sample stands alone above it", () => {
    for (const { lengths, ...limits } of cases) {
      const batches = cut(lengths, limits);
      expect(batches.flat().sort((a, b) => a - b)).toEqual(lengths.map((_, i) => i));
      for (const batch of batches) {
        expect(batch.length).toBeLessThanOrEqual(limits.maxSamples ?? Infinity);
        if (batch.length > 1) expect(total(lengths, batch)).toBeLessThanOrEqual(limits.maxTokens);
      }
      expect(cut(lengths, limits)).toEqual(batches);
    }
  });

  test("refuses limits that nothing fits", () => {
    expect(() => cut([1], { maxTokens: 0 })).toThrow("maxTokens");
    expect(() => cut([1], { maxTokens: Number.NaN })).toThrow("maxTokens");
    expect(() => cut([1], { maxTokens: 5, maxSamples: 0 })).toThrow("maxSamples");
  });
});

describe("order", () => {
  test("micro-batches are levelled and keep order inside", () => {
    expect(splitMicroBatches([4, 5, 3, 9, 2, 1], { maxTokens: 8 })).toEqual([[0, 2], [1, 4, 5], [3]]);
    expect(splitMicroBatches([4, 5, 3, 9, 2, 1], { maxTokens: 8, maxSamples: 2 })).toEqual([[0, 5], [1], [2, 4], [3]]);
    expect(splitMicroBatches([1, 2, 3], { maxTokens: Infinity, maxSamples: 2 })).toEqual([[0, 1], [2]]);
    for (const { lengths, ...limits } of cases) {
      for (const batch of splitMicroBatches(lengths, limits)) expect(batch).toEqual(batch.toSorted((a, b) => a - b));
    }
  });

  test("a step of very many batches is cut in a moment", () => {
    const lengths = new Array<number>(65_536).fill(64);
    expect(splitMicroBatches(lengths, { maxTokens: Infinity, maxSamples: 1 })).toEqual(lengths.map((_, i) => [i]));
  }, 1000);

  test("evaluation batches go from long to short, and results return to input order", () => {
    expect(lengthSortedBatches([1, 9, 5, 9], { maxTokens: 14 })).toEqual([[1], [3, 2], [0]]);
    for (const { lengths, ...limits } of cases) {
      const batches = lengthSortedBatches(lengths, limits);
      const flat = batches.flat().map((i) => lengths[i]!);
      expect(flat).toEqual(flat.toSorted((a, b) => b - a));
      const results = batches.map((batch) => batch.map((i) => `result ${i}`));
      expect(restoreOrder(batches, results)).toEqual(lengths.map((_, i) => `result ${i}`));
    }
    expect(() => restoreOrder([[0], [1]], [["a"]])).toThrow("do not match");
    expect(() => restoreOrder([[0], [2]], [["a"], ["b"]])).toThrow("no result for sample 1");
    expect(() => restoreOrder([[0], [0]], [["a"], ["b"]])).toThrow("do not match");
  });
});

describe("packSamples", () => {
  const sample = (index: number, label: number | undefined, ...ids: number[]): Sample => ({
    index,
    label,
    inputIds: Uint32Array.from(ids),
  });

  test("lays samples end to end", () => {
    expect(packSamples([sample(7, 2, 10, 11, 12), sample(3, 0, 20), sample(5, 1, 30, 31)])).toEqual({
      inputIds: Uint32Array.of(10, 11, 12, 20, 30, 31),
      cuSeqlens: Uint32Array.of(0, 3, 4, 6),
      segments: Uint32Array.of(0, 3, 0, 3, 0, 3, 3, 4, 4, 6, 4, 6),
      labels: Uint32Array.of(2, 0, 1),
      sampleIndex: [7, 3, 5],
    });
    expect(packSamples([sample(0, undefined, 1)]).labels).toBeUndefined();
  });

  test("what cannot be packed is refused", () => {
    expect(() => packSamples([])).toThrow("nothing to pack");
    expect(() => packSamples([sample(4, 0)])).toThrow("sample 4 has no tokens");
    expect(() => packSamples([sample(0, 0, 1), sample(1, undefined, 1)])).toThrow(
      "some samples of the batch have labels",
    );
  });
});
