import { describe, expect, test } from "bun:test";
import { Tape } from "../../core/compute/tape.ts";
import { addResidual } from "../../kernels/add/index.ts";
import { addNorm, rmsNorm } from "../../kernels/rms-norm/index.ts";
import { addNormThenNorm } from "../../kernels/rms-norm/pair.ts";
import { rmsNormBackwardReference, rmsNormReference } from "../../kernels/rms-norm/reference.ts";
import { expectClose, expectNear } from "../support/close.ts";
import { gpuOf, normals, rounded, runSeed, tensorOf, tiers } from "../support/gpu.ts";
import { differences, dot, halfTolerance, runOp } from "../support/op.ts";

const EPS = 1e-6;

test("the reference's backward is the derivative of its forward", () => {
  const x = normals(3 * 5, runSeed, 2);
  const weight = normals(5, runSeed + 1, 0.3);
  const dY = normals(3 * 5, runSeed + 2);
  for (const offset of [0, 1]) {
    const want = differences((at) => dot(rmsNormReference(at, weight, 1e-3, offset), dY), x);
    expectNear(rmsNormBackwardReference(x, weight, 1e-3, offset, dY), want, 1e-8);
  }
});

test("the reference norms to a mean square of one", () => {
  const y = rmsNormReference(normals(64, runSeed, 100), new Float64Array(64), 0, 1);
  expect(dot(y, y) / 64).toBeCloseTo(1, 12);
});

for (const tier of tiers) {
  describe(`rmsNorm, tier ${tier} (seed ${runSeed})`, () => {
    for (const [rows, columns] of [
      [1, 1],
      [17, 257],
      [257, 128],
      [70_001, 4], // folds the grid, with a workgroup to spare
      [3, 3584],
    ] as const) {
      for (const offset of [0, 1] as const) {
        test(`[${rows},${columns}], offset ${offset}`, async () => {
          const gpu = await gpuOf(tier);
          const x = normals(rows * columns, runSeed, 30);
          const weight = normals(columns, runSeed + 1, 0.3);
          const dY = rounded(normals(rows * columns, runSeed + 2), gpu.computeDtype);
          const w = tensorOf(gpu, weight, [columns], "f32");
          const input = tensorOf(gpu, x, [rows, columns], "f32");
          const run = await runOp(gpu, [input], (tape, t) => rmsNorm(tape, t, w, { eps: EPS, offset }), dY);
          expectClose(run.output, rmsNormReference(x, weight, EPS, offset), halfTolerance(gpu.computeDtype));
          // With one column the gradient is what is left of two equal numbers; else it is f32 throughout.
          if (columns > 1) {
            expectNear(run.gradients[0]!, rmsNormBackwardReference(x, weight, EPS, offset, dY), 1e-6);
          }
          gpu.free(w);
        });
      }
    }

    for (const [rows, heads, headDim] of [
      [1, 1, 4],
      [17, 3, 20],
      [33, 2, 128],
      [257, 5, 1],
    ] as const) {
      test(`heads of [${rows},${heads}*${headDim}], each by itself`, async () => {
        const gpu = await gpuOf(tier);
        const columns = heads * headDim;
        const x = rounded(normals(rows * columns, runSeed, 30), gpu.computeDtype);
        const weight = normals(headDim, runSeed + 1, 0.3);
        const dY = rounded(normals(rows * columns, runSeed + 2), gpu.computeDtype);
        const w = tensorOf(gpu, weight, [headDim], "f32");
        const input = tensorOf(gpu, x, [rows, columns], gpu.computeDtype);
        const norm = { eps: EPS, offset: 0, headDim } as const;
        const run = await runOp(gpu, [input], (tape, t) => rmsNorm(tape, t, w, norm), dY);
        // The reference takes the weight's length for a row's.
        expectClose(run.output, rmsNormReference(x, weight, EPS, 0), halfTolerance(gpu.computeDtype));
        if (headDim > 1) {
          const want = rmsNormBackwardReference(x, weight, EPS, 0, dY);
          expectNear(run.gradients[0]!, want, gpu.computeDtype === "f16" ? 1e-3 : 1e-6);
        }
        gpu.free(w);
      });
    }

    test("a weight of another size is refused, and columns that are no whole heads", async () => {
      const gpu = await gpuOf(tier);
      const tape = new Tape(gpu);
      const input = tensorOf(gpu, new Float32Array(12), [1, 12], "f32");
      const w = tensorOf(gpu, new Float32Array(8), [8], "f32");
      const norm = (headDim?: number) => () => rmsNorm(tape, input, w, { eps: EPS, offset: 0, headDim });
      expect(norm()).toThrow("expected [12] f32");
      expect(norm(4)).toThrow("expected [4] f32");
      expect(norm(8)).toThrow("rmsNorm: 12 columns are not whole heads of 8");
      tape.close();
      gpu.free(input);
      gpu.free(w);
    });

    test("f32 output, whatever the tier", async () => {
      const gpu = await gpuOf(tier);
      const [rows, columns] = [5, 128];
      const x = normals(rows * columns, runSeed, 30);
      const weight = normals(columns, runSeed + 1, 0.3);
      const dY = normals(rows * columns, runSeed + 2);
      const w = tensorOf(gpu, weight, [columns], "f32");
      const input = tensorOf(gpu, x, [rows, columns], "f32");
      const norm = { eps: EPS, offset: 1, dtype: "f32" } as const;
      const run = await runOp(gpu, [input], (tape, t) => rmsNorm(tape, t, w, norm), dY);
      expectNear(run.output, rmsNormReference(x, weight, EPS, 1), 1e-6);
      expectNear(run.gradients[0]!, rmsNormBackwardReference(x, weight, EPS, 1, dY), 1e-6);
      gpu.free(w);
    });

    test("zeros are normed by eps alone", async () => {
      const gpu = await gpuOf(tier);
      const w = tensorOf(gpu, new Float32Array(8), [8], "f32");
      const input = tensorOf(gpu, new Float32Array(8), [1, 8], "f32");
      const run = await runOp(
        gpu,
        [input],
        (tape, t) => rmsNorm(tape, t, w, { eps: 1e-4, offset: 1 }),
        [1, 2, 3, 4, 5, 6, 7, 8],
      );
      expect([...run.output]).toEqual(Array(8).fill(0));
      expectClose(run.gradients[0]!, [100, 200, 300, 400, 500, 600, 700, 800], { rtol: 1e-6 });
      gpu.free(w);
    });

    for (const [rows, columns] of [
      [17, 31],
      [33, 128],
    ] as const) {
      test(`addNorm of a norm of the same residual [${rows},${columns}]`, async () => {
        const gpu = await gpuOf(tier);
        const residual = normals(rows * columns, runSeed, 3);
        const first = normals(columns, runSeed + 1, 0.3);
        const second = normals(columns, runSeed + 2, 0.3);
        const dOut = normals(rows * columns, runSeed + 3);
        const w1 = tensorOf(gpu, first, [columns], "f32");
        const w2 = tensorOf(gpu, second, [columns], "f32");
        const input = tensorOf(gpu, residual, [rows, columns], "f32");
        const norm = { eps: EPS, offset: 1 } as const;
        // The residual is used twice: its gradient is dOut, to which rmsNorm's backward adds.
        const run = await runOp(
          gpu,
          [input],
          (tape, t) => addNorm(tape, t, rmsNorm(tape, t, w1, norm), w2, norm),
          dOut,
        );
        const x = rounded(rmsNormReference(residual, first, EPS, 1), gpu.computeDtype);
        const want = rmsNormReference(x, second, EPS, 1).map((v, i) => v + residual[i]!);
        const dX = rounded(rmsNormBackwardReference(x, second, EPS, 1, dOut), gpu.computeDtype);
        const dResidual = rmsNormBackwardReference(residual, first, EPS, 1, dX).map((v, i) => v + dOut[i]!);
        // In f16 a rounding of x may fall the other way than here, which moves single elements by 2^-11 of x.
        expectNear(run.output, want, gpu.computeDtype === "f16" ? 5e-5 : 1e-6);
        expectNear(run.gradients[0]!, dResidual, gpu.computeDtype === "f16" ? 5e-5 : 1e-6);
        gpu.free(w1);
        gpu.free(w2);
      });
    }

    for (const [rows, columns] of [
      [1, 1],
      [17, 31],
      [33, 128],
      [3, 3584],
    ] as const) {
      test(`addNormThenNorm, both outputs used [${rows},${columns}]`, async () => {
        const gpu = await gpuOf(tier);
        const residual = normals(rows * columns, runSeed, 3);
        const x = rounded(normals(rows * columns, runSeed + 1, 5), gpu.computeDtype);
        const [first, second] = [normals(columns, runSeed + 2, 0.3), normals(columns, runSeed + 3, 0.3)];
        const dOut = normals(rows * columns, runSeed + 4);
        const [w1, w2] = [tensorOf(gpu, first, [columns], "f32"), tensorOf(gpu, second, [columns], "f32")];
        const inputs = [
          tensorOf(gpu, residual, [rows, columns], "f32"),
          tensorOf(gpu, x, [rows, columns], gpu.computeDtype),
        ];
        const norm = { eps: EPS, offset: 1 } as const;
        const run = await runOp(
          gpu,
          inputs,
          (tape, r, t) => addResidual(tape, ...addNormThenNorm(tape, r, t, w1, w2, norm)),
          dOut,
        );
        const sums = rmsNormReference(x, first, EPS, 1).map((v, i) => v + residual[i]!);
        const y = rounded(rmsNormReference(sums, second, EPS, 1), gpu.computeDtype);
        const dY = rounded(dOut, gpu.computeDtype);
        const dSums = rmsNormBackwardReference(sums, second, EPS, 1, dY).map((v, i) => v + dOut[i]!);
        const tolerance = gpu.computeDtype === "f16" ? 5e-5 : 1e-6;
        expectNear(
          run.output,
          sums.map((v, i) => v + y[i]!),
          tolerance,
        );
        // With one column the norm's gradient is what is left of two equal numbers.
        if (columns > 1) {
          expectNear(run.gradients[0]!, dSums, 2e-6);
          expectClose(
            run.gradients[1]!,
            rmsNormBackwardReference(x, first, EPS, 1, dSums),
            halfTolerance(gpu.computeDtype),
          );
        }
        gpu.free(w1);
        gpu.free(w2);
      });

      test(`addNormThenNorm, one output used [${rows},${columns}]`, async () => {
        const gpu = await gpuOf(tier);
        const x = rounded(normals(rows * columns, runSeed + 1, 5), gpu.computeDtype);
        const residual = normals(rows * columns, runSeed, 3);
        const weight = normals(columns, runSeed + 2, 0.3);
        const w = tensorOf(gpu, weight, [columns], "f32");
        const norm = { eps: EPS, offset: 1 } as const;
        for (const used of [0, 1] as const) {
          const dtype = used === 0 ? "f32" : gpu.computeDtype;
          const dOut = rounded(normals(rows * columns, runSeed + 3), dtype);
          const inputs = [
            tensorOf(gpu, residual, [rows, columns], "f32"),
            tensorOf(gpu, x, [rows, columns], gpu.computeDtype),
          ];
          const pair = await runOp(gpu, inputs, (tape, r, t) => addNormThenNorm(tape, r, t, w, w, norm)[used], dOut);
          const again = [
            tensorOf(gpu, residual, [rows, columns], "f32"),
            tensorOf(gpu, x, [rows, columns], gpu.computeDtype),
          ];
          const apart = await runOp(
            gpu,
            again,
            (tape, r, t) => {
              const sums = addNorm(tape, r, t, w, norm);
              return used === 0 ? sums : rmsNorm(tape, sums, w, norm);
            },
            dOut,
          );
          expectNear(pair.output, apart.output, 1e-6);
          // With one column the gradient is what is left of two equal numbers.
          if (columns === 1) continue;
          pair.gradients.forEach((gradient, i) => expectNear(gradient, apart.gradients[i]!, 1e-3));
        }
        gpu.free(w);
      });
    }

    test("addNorm gives both inputs their gradients", async () => {
      const gpu = await gpuOf(tier);
      const [rows, columns] = [17, 128];
      const residual = normals(rows * columns, runSeed, 3);
      const x = rounded(normals(rows * columns, runSeed + 1, 5), gpu.computeDtype);
      const weight = normals(columns, runSeed + 2, 0.3);
      const dOut = normals(rows * columns, runSeed + 3);
      const w = tensorOf(gpu, weight, [columns], "f32");
      const inputs = [
        tensorOf(gpu, residual, [rows, columns], "f32"),
        tensorOf(gpu, x, [rows, columns], gpu.computeDtype),
      ];
      const run = await runOp(gpu, inputs, (tape, r, t) => addNorm(tape, r, t, w, { eps: EPS, offset: 1 }), dOut);
      expect([...run.gradients[0]!]).toEqual([...dOut]);
      expectClose(
        run.gradients[1]!,
        rmsNormBackwardReference(x, weight, EPS, 1, dOut),
        halfTolerance(gpu.computeDtype),
      );
      gpu.free(w);
    });
  });
}
