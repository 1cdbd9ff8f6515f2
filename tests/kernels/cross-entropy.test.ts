import { describe, expect, test } from "bun:test";
import { crossEntropy, crossEntropySoft } from "../../kernels/cross-entropy/index.ts";
import { crossEntropyBackwardReference, crossEntropyReference, oneHot } from "../../kernels/cross-entropy/reference.ts";
import { expectClose, expectNear } from "../support/close.ts";
import { gpuOf, normals, random, runSeed, tensorOf, tiers } from "../support/gpu.ts";
import { differences, dot, runOp } from "../support/op.ts";

test("the reference is the log of the softmax", () => {
  // -log(e^1 / (e^1 + e^2 + e^3)) and so on
  const losses = crossEntropyReference([1, 2, 3, 1, 2, 3], oneHot([0, 2], 3), 3);
  expectClose(losses, [2.4076059644443806, 0.4076059644443806], { rtol: 1e-14 });
  expectClose(crossEntropyReference([0, 0, 0, 0], [0.25, 0.25, 0.25, 0.25], 4), [Math.log(4)], { rtol: 1e-14 });
});

test("the reference's backward is the derivative of its forward", () => {
  const logits = normals(4 * 5, runSeed, 3);
  const targets = normals(4 * 5, runSeed + 1).map(Math.abs); // need not sum to 1
  const dLosses = normals(4, runSeed + 2);
  const want = differences((at) => dot(crossEntropyReference(at, targets, 5), dLosses), logits);
  expectNear(crossEntropyBackwardReference(logits, targets, 5, dLosses), want, 1e-7);
});

for (const tier of tiers) {
  describe(`crossEntropy, tier ${tier} (seed ${runSeed})`, () => {
    for (const [samples, labels] of [
      [1, 1],
      [17, 3],
      [257, 2],
      [70_001, 2], // folds the grid, with a workgroup to spare
      [3, 257],
      [2, 5000],
    ] as const) {
      test(`[${samples},${labels}], labels`, async () => {
        const gpu = await gpuOf(tier);
        const logits = normals(samples * labels, runSeed, 4);
        const next = random(runSeed + 1);
        const classes = Array.from({ length: samples }, () => Math.floor(next() * labels));
        classes[0] = labels - 1;
        const dLosses = normals(samples, runSeed + 2, 1024);
        const labelTensor = tensorOf(gpu, classes, [samples], "u32");
        const input = tensorOf(gpu, logits, [samples, labels], "f32");
        const run = await runOp(gpu, [input], (tape, t) => crossEntropy(tape, t, labelTensor), dLosses);
        const targets = oneHot(classes, labels);
        expectClose(run.output, crossEntropyReference(logits, targets, labels), { rtol: 2e-6, atol: 1e-6 });
        const want = crossEntropyBackwardReference(logits, targets, labels, dLosses);
        if (labels === 1) expectClose(run.gradients[0]!, want, { atol: 1e-6 });
        else expectNear(run.gradients[0]!, want, 2e-6);
        gpu.free(labelTensor);
      });

      test(`[${samples},${labels}], soft targets`, async () => {
        const gpu = await gpuOf(tier);
        const logits = normals(samples * labels, runSeed, 4);
        const next = random(runSeed + 1);
        const targets = Float32Array.from({ length: samples * labels }, () => (next() * 2) / labels);
        const dLosses = normals(samples, runSeed + 2);
        const targetTensor = tensorOf(gpu, targets, [samples, labels], "f32");
        const input = tensorOf(gpu, logits, [samples, labels], "f32");
        const run = await runOp(gpu, [input], (tape, t) => crossEntropySoft(tape, t, targetTensor), dLosses);
        expectClose(run.output, crossEntropyReference(logits, targets, labels), { rtol: 2e-6, atol: 1e-6 });
        const want = crossEntropyBackwardReference(logits, targets, labels, dLosses);
        if (labels === 1) expectClose(run.gradients[0]!, want, { atol: 1e-6 });
        else expectNear(run.gradients[0]!, want, 2e-6);
        gpu.free(targetTensor);
      });
    }

    test("a temperature divides the logits; its gradient is the chain rule's", async () => {
      const gpu = await gpuOf(tier);
      const [samples, labels, temperature] = [17, 3, 2.5];
      const logits = normals(samples * labels, runSeed, 4);
      const targets = normals(samples * labels, runSeed + 1).map(Math.abs);
      const dLosses = normals(samples, runSeed + 2);
      const targetTensor = tensorOf(gpu, targets, [samples, labels], "f32");
      const input = tensorOf(gpu, logits, [samples, labels], "f32");
      const run = await runOp(gpu, [input], (tape, t) => crossEntropySoft(tape, t, targetTensor, temperature), dLosses);
      const scaled = Float64Array.from(logits, (value) => value / temperature);
      expectClose(run.output, crossEntropyReference(scaled, targets, labels), { rtol: 2e-6, atol: 1e-6 });
      const want = crossEntropyBackwardReference(scaled, targets, labels, dLosses).map((value) => value / temperature);
      expectNear(run.gradients[0]!, want, 2e-6);
      gpu.free(targetTensor);
    });

    test("large logits do not overflow, and a NaN shows", async () => {
      const gpu = await gpuOf(tier);
      const labelTensor = tensorOf(gpu, [0, 1, 1], [3], "u32");
      const input = tensorOf(gpu, [1e4, -1e4, 3e4, 2.9999e4, NaN, 1], [3, 2], "f32");
      const run = await runOp(gpu, [input], (tape, t) => crossEntropy(tape, t, labelTensor), [1, 1, 1]);
      expectClose(run.output.subarray(0, 2), [0, Math.log(1 + Math.exp(1))], { rtol: 1e-6 });
      expect(run.output[2]).toBeNaN();
      expectClose(run.gradients[0]!.subarray(0, 4), [0, 0, 0.731059, -0.731059], { atol: 1e-6 });
      gpu.free(labelTensor);
    });
  });
}
