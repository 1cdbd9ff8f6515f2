/** Losses of the tasks beside classification, against their references: mean squared error, binary cross entropy, Bradley-Terry. */
import { describe, expect, test } from "bun:test";
import type { Tape } from "../../core/compute/tape.ts";
import type { Tensor } from "../../core/device/tensor.ts";
import { binaryCrossEntropy } from "../../kernels/binary-cross-entropy/index.ts";
import {
  binaryCrossEntropyBackwardReference,
  binaryCrossEntropyReference,
} from "../../kernels/binary-cross-entropy/reference.ts";
import { bradleyTerry } from "../../kernels/bradley-terry/index.ts";
import { bradleyTerryBackwardReference, bradleyTerryReference } from "../../kernels/bradley-terry/reference.ts";
import { meanSquaredError } from "../../kernels/mean-squared-error/index.ts";
import {
  meanSquaredErrorBackwardReference,
  meanSquaredErrorReference,
} from "../../kernels/mean-squared-error/reference.ts";
import { expectClose, expectNear } from "../support/close.ts";
import { gpuOf, normals, runSeed, tensorOf, tiers } from "../support/gpu.ts";
import { differences, dot, runOp } from "../support/op.ts";

type Values = ArrayLike<number>;

interface Elementwise {
  readonly name: string;
  readonly op: (tape: Tape, logits: Tensor, targets: Tensor) => Tensor;
  readonly reference: (logits: Values, targets: Values, labels: number) => Float64Array;
  readonly backward: (logits: Values, targets: Values, labels: number, dLosses: Values) => Float64Array;
}

const losses: readonly Elementwise[] = [
  {
    name: "meanSquaredError",
    op: meanSquaredError,
    reference: meanSquaredErrorReference,
    backward: meanSquaredErrorBackwardReference,
  },
  {
    name: "binaryCrossEntropy",
    op: binaryCrossEntropy,
    reference: binaryCrossEntropyReference,
    backward: binaryCrossEntropyBackwardReference,
  },
];

test("the references are torch's losses", () => {
  // ((1 - 0)^2 + (3 - 1)^2) / 2
  expectClose(meanSquaredErrorReference([1, 3], [0, 1], 2), [2.5], { rtol: 1e-15 });
  // log(1 + e^-2) for a label that is there, log(1 + e^-1) for one that is not
  const there = Math.log(1 + Math.exp(-2));
  const absent = Math.log(1 + Math.exp(-1));
  expectClose(binaryCrossEntropyReference([2, -1], [1, 0], 2), [(there + absent) / 2], { rtol: 1e-14 });
  // -log sigmoid(3 - 1 - 0.5) + 0.01 (3 + 1)^2
  const pair = Math.log(1 + Math.exp(-1.5)) + 0.16;
  expectClose(bradleyTerryReference([3, 1], [0.5], 0.01), [pair], { rtol: 1e-14 });
});

for (const { name, reference, backward } of losses) {
  test(`${name}: the reference's backward is the derivative of its forward`, () => {
    const [logits, targets, dLosses] = [normals(20, runSeed, 3), normals(20, runSeed + 1), normals(4, runSeed + 2)];
    const want = differences((at) => dot(reference(at, targets, 5), dLosses), logits);
    expectNear(backward(logits, targets, 5, dLosses), want, 1e-7);
  });
}

test("bradleyTerry: the reference's backward is the derivative of its forward", () => {
  const [scores, margins, dLosses] = [normals(14, runSeed, 3), normals(7, runSeed + 1), normals(7, runSeed + 2)];
  const want = differences((at) => dot(bradleyTerryReference(at, margins, 0.1), dLosses), scores);
  expectNear(bradleyTerryBackwardReference(scores, margins, 0.1, dLosses), want, 1e-7);
});

for (const tier of tiers) {
  describe(`losses of tasks, tier ${tier} (seed ${runSeed})`, () => {
    for (const { name, op, reference, backward } of losses) {
      for (const [samples, labels] of [
        [1, 1],
        [17, 3],
        [257, 1],
        [3, 257],
        [2, 5000],
      ] as const) {
        test(`${name} [${samples},${labels}]`, async () => {
          const gpu = await gpuOf(tier);
          const logits = normals(samples * labels, runSeed, 4);
          const targets = normals(samples * labels, runSeed + 1);
          const dLosses = normals(samples, runSeed + 2, 1024);
          const targetTensor = tensorOf(gpu, targets, [samples, labels], "f32");
          const input = tensorOf(gpu, logits, [samples, labels], "f32");
          const run = await runOp(gpu, [input], (tape, t) => op(tape, t, targetTensor), dLosses);
          expectClose(run.output, reference(logits, targets, labels), { rtol: 2e-6, atol: 1e-6 });
          expectNear(run.gradients[0]!, backward(logits, targets, labels, dLosses), 2e-6);
          gpu.free(targetTensor);
        });
      }
    }

    for (const pairs of [1, 17, 257]) {
      test(`bradleyTerry, ${pairs} pairs`, async () => {
        const gpu = await gpuOf(tier);
        const [scores, margins] = [normals(2 * pairs, runSeed, 4), normals(pairs, runSeed + 1)];
        const dLosses = normals(pairs, runSeed + 2, 1024);
        const marginTensor = tensorOf(gpu, margins, [pairs], "f32");
        const input = tensorOf(gpu, scores, [2 * pairs, 1], "f32");
        const run = await runOp(gpu, [input], (tape, t) => bradleyTerry(tape, t, marginTensor, 0.01), dLosses);
        expectClose(run.output, bradleyTerryReference(scores, margins, 0.01), { rtol: 2e-6, atol: 1e-6 });
        expectNear(run.gradients[0]!, bradleyTerryBackwardReference(scores, margins, 0.01, dLosses), 2e-6);
        gpu.free(marginTensor);
      });
    }

    test("large logits do not overflow, small losses keep their digits, and a NaN shows", async () => {
      const gpu = await gpuOf(tier);
      const logits = [1e4, -1e4, 12, NaN, 1];
      const targets = tensorOf(gpu, [1, 1, 1, 0, 0], [5, 1], "f32");
      const input = tensorOf(gpu, logits, [5, 1], "f32");
      const run = await runOp(gpu, [input], (tape, t) => binaryCrossEntropy(tape, t, targets), [1, 1, 1, 1, 1]);
      expectClose(run.output.subarray(0, 3), [0, 1e4, Math.log1p(Math.exp(-12))], { rtol: 1e-5 });
      expect(run.output[3]).toBeNaN();
      expectClose(run.gradients[0]!.subarray(0, 2), [0, -1], { atol: 1e-6 });
      gpu.free(targets);

      const margins = tensorOf(gpu, [0, 0], [2], "f32");
      const scores = tensorOf(gpu, [1e4, 0, 0, NaN], [4, 1], "f32");
      const pairs = await runOp(gpu, [scores], (tape, t) => bradleyTerry(tape, t, margins), [1, 1]);
      expect(pairs.output[0]).toBe(0);
      expect(pairs.output[1]).toBeNaN();
      gpu.free(margins);
    });
  });
}
