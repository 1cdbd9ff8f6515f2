import { describe, expect, test } from "bun:test";
import type { Tape } from "../../core/compute/tape.ts";
import type { Tensor } from "../../core/device/tensor.ts";
import { rope, ropeInverseFrequencies } from "../../kernels/rope/index.ts";
import { ropeReference } from "../../kernels/rope/reference.ts";
import { expectClose, expectNear } from "../support/close.ts";
import { gpuOf, normals, rounded, runSeed, tensorOf, tiers } from "../support/gpu.ts";
import { differences, dot, halfTolerance, runOp } from "../support/op.ts";

/** Positions of packed samples of these lengths, and `segments` as a batch has them. */
function packed(lengths: readonly number[]): { positions: number[]; segments: number[] } {
  const positions: number[] = [];
  const segments: number[] = [];
  for (const length of lengths) {
    const start = positions.length;
    for (let i = 0; i < length; i++) {
      positions.push(i);
      segments.push(start, start + length);
    }
  }
  return { positions, segments };
}

test("inverse frequencies are powers of theta", () => {
  // theta^(-2j/D) for D = 8, theta = 10000
  expectClose(ropeInverseFrequencies(8, 10000), [1, 0.1, 0.01, 0.001], { rtol: 2 ** -24 });
  // float32(10000 ** (-2 / 256)), and the last of 128
  const wide = ropeInverseFrequencies(256, 10000);
  expect(wide.length).toBe(128);
  expectClose([wide[1]!, wide[127]!], [0.930572041, 1.07460783e-4], { rtol: 1e-7 });
});

test("the reference turns a pair by its angle, and backward is its derivative", () => {
  const quarter = Float32Array.of(Math.PI / 2, Math.PI);
  // Position 1: (x0, x2) by 90 degrees, (x1, x3) by 180.
  expectClose(ropeReference([1, 2, 3, 4], 4, [1], quarter), [-3, -2, 1, -4], { atol: 1e-6 });
  const { positions } = packed([3, 2]);
  const frequencies = ropeInverseFrequencies(4, 100);
  const x = normals(5 * 8, runSeed);
  const dY = normals(5 * 8, runSeed + 1);
  const want = differences((at) => dot(ropeReference(at, 8, positions, frequencies), dY), x);
  expectNear(ropeReference(dY, 8, positions, frequencies, -1), want, 1e-8);
  // (1, 2) by 90 degrees and doubled; 3 and 4 are beyond the pair.
  const partly = ropeReference([1, 2, 3, 4], 4, [1], Float32Array.of(Math.PI / 2), 1, { headDim: 4, factor: 2 });
  expectClose(partly, [-4, 2, 3, 4], { atol: 1e-6 });
});

for (const tier of tiers) {
  describe(`rope, tier ${tier} (seed ${runSeed})`, () => {
    for (const [lengths, heads, headDim] of [
      [[1], 1, 2],
      [[5, 1, 11], 3, 6],
      [[100, 157], 4, 32],
    ] as const) {
      test(`samples of ${lengths.join("+")} tokens, ${heads} heads of ${headDim}`, async () => {
        const gpu = await gpuOf(tier);
        const { positions, segments } = packed(lengths);
        const shape = [positions.length, heads * headDim] as const;
        const frequencies = ropeInverseFrequencies(headDim, 10000);
        const x = rounded(normals(shape[0] * shape[1], runSeed), gpu.computeDtype);
        const dY = rounded(normals(shape[0] * shape[1], runSeed + 1), gpu.computeDtype);
        const segmentTensor = tensorOf(gpu, segments, [shape[0], 2], "u32");
        const frequencyTensor = tensorOf(gpu, frequencies, [headDim / 2], "f32");
        const input = tensorOf(gpu, x, shape, gpu.computeDtype);
        const run = await runOp(gpu, [input], (tape, t) => rope(tape, t, segmentTensor, frequencyTensor, headDim), dY);
        expectClose(run.output, ropeReference(x, shape[1], positions, frequencies), halfTolerance(gpu.computeDtype));
        expectClose(
          run.gradients[0]!,
          ropeReference(dY, shape[1], positions, frequencies, -1),
          halfTolerance(gpu.computeDtype),
        );
        gpu.free(segmentTensor);
        gpu.free(frequencyTensor);
      });
    }

    for (const [half, headDim] of [
      [3, 8],
      [4, 12],
      [12, 32],
    ] as const) {
      test(`${2 * half} columns of heads of ${headDim}, and a factor`, async () => {
        const gpu = await gpuOf(tier);
        const { positions, segments } = packed([5, 1, 11]);
        const shape = [positions.length, 3 * headDim] as const;
        const frequencies = ropeInverseFrequencies(2 * half, 10000);
        const x = rounded(normals(shape[0] * shape[1], runSeed), gpu.computeDtype);
        const dY = rounded(normals(shape[0] * shape[1], runSeed + 1), gpu.computeDtype);
        const segmentTensor = tensorOf(gpu, segments, [shape[0], 2], "u32");
        const frequencyTensor = tensorOf(gpu, frequencies, [half], "f32");
        const input = tensorOf(gpu, x, shape, gpu.computeDtype);
        const turn = (tape: Tape, t: Tensor) => rope(tape, t, segmentTensor, frequencyTensor, headDim, 1.19);
        const run = await runOp(gpu, [input], turn, dY);
        const wanted = (of: ArrayLike<number>, direction: 1 | -1) =>
          ropeReference(of, shape[1], positions, frequencies, direction, { headDim, factor: 1.19 });
        expectClose(run.output, wanted(x, 1), halfTolerance(gpu.computeDtype));
        expectClose(run.gradients[0]!, wanted(dY, -1), halfTolerance(gpu.computeDtype));
        gpu.free(segmentTensor);
        gpu.free(frequencyTensor);
      });
    }

    test("angles up to position 8191 are those of f32", async () => {
      const gpu = await gpuOf(tier);
      const headDim = 256;
      const frequencies = ropeInverseFrequencies(headDim, 10000);
      // A row's position is its distance from its sample's start, which may lie anywhere.
      const positions = Array.from({ length: 64 }, (_, i) => (i === 0 ? 8191 : Math.floor((i * 8191) / 64)));
      const segments = positions.flatMap((position, row) => [(row - position) >>> 0, row + 1]);
      const x = Float32Array.from({ length: 64 * headDim }, (_, i) => (i % headDim < headDim / 2 ? 1 : 0));
      const segmentTensor = tensorOf(gpu, segments, [64, 2], "u32");
      const frequencyTensor = tensorOf(gpu, frequencies, [headDim / 2], "f32");
      const input = tensorOf(gpu, x, [64, headDim], "f32");
      const run = await runOp(gpu, [input], (tape, t) => rope(tape, t, segmentTensor, frequencyTensor, headDim), x);
      expectClose(run.output, ropeReference(x, headDim, positions, frequencies), { atol: 3e-7 });
      gpu.free(segmentTensor);
      gpu.free(frequencyTensor);
    });

    test("columns that are not whole heads are refused", async () => {
      const gpu = await gpuOf(tier);
      const segmentTensor = tensorOf(gpu, [0, 1], [1, 2], "u32");
      const frequencyTensor = tensorOf(gpu, [1, 1], [2], "f32");
      const input = tensorOf(gpu, normals(6, 1), [1, 6], "f32");
      const attempt = runOp(gpu, [input], (tape, t) => rope(tape, t, segmentTensor, frequencyTensor, 4), []);
      expect(String(await attempt.catch((error: unknown) => error))).toContain("whole heads");
      for (const tensor of [segmentTensor, frequencyTensor, input]) gpu.free(tensor);
    });
  });
}
