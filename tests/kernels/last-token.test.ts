import { describe, test } from "bun:test";
import { Tape } from "../../core/compute/tape.ts";
import { lastToken } from "../../kernels/last-token/index.ts";
import { poolBackwardReference, poolReference } from "../../kernels/last-token/reference.ts";
import { softcap } from "../../kernels/softcap/index.ts";
import { softcapBackwardReference } from "../../kernels/softcap/reference.ts";
import { expectClose } from "../support/close.ts";
import { gpuOf, normals, rounded, runSeed, tensorOf, tiers } from "../support/gpu.ts";
import { runOp } from "../support/op.ts";

for (const tier of tiers) {
  describe(`pool, tier ${tier} (seed ${runSeed})`, () => {
    for (const [rows, columns, lastTokens] of [
      [1, 1, [0]],
      [17, 257, [4, 5, 16]],
      [257, 128, [0, 100, 255, 256]],
    ] as const) {
      test(`rows ${lastTokens.join()} of [${rows},${columns}]`, async () => {
        const gpu = await gpuOf(tier);
        const dtype = gpu.computeDtype;
        const x = rounded(normals(rows * columns, runSeed), dtype);
        const dY = rounded(normals(lastTokens.length * columns, runSeed + 1), dtype);
        const last = tensorOf(gpu, lastTokens, [lastTokens.length], "u32");
        const input = tensorOf(gpu, x, [rows, columns], dtype);
        const run = await runOp(gpu, [input], (tape, t) => lastToken(tape, t, last), dY);
        expectClose(run.output, poolReference(x, columns, lastTokens), {});
        expectClose(run.gradients[0]!, poolBackwardReference(rows, columns, lastTokens, dY), {});
        gpu.free(last);
      });
    }

    test("adds to a gradient that is there", async () => {
      const gpu = await gpuOf(tier);
      const [rows, columns, lastTokens] = [5, 8, [1, 4]];
      const x = normals(rows * columns, runSeed);
      const dY = normals(2 * columns, runSeed + 1);
      const dZ = normals(rows * columns, runSeed + 2);
      const last = tensorOf(gpu, lastTokens, [2], "u32");
      const input = tensorOf(gpu, x, [rows, columns], "f32");
      const tape = new Tape(gpu);
      tape.requireGradient(input);
      const y = lastToken(tape, input, last);
      const z = softcap(tape, input, 2);
      const seeds = [dY, dZ].map((values, i) => {
        const seed = tape.like([y, z][i]!);
        gpu.write(seed, values);
        return seed;
      });
      const [gradient] = tape.backward(
        [
          [y, seeds[0]!],
          [z, seeds[1]!],
        ],
        [input],
      );
      const want = poolBackwardReference(rows, columns, lastTokens, dY);
      const other = softcapBackwardReference(x, 2, dZ);
      expectClose(
        await gpu.readFloats(gradient!),
        want.map((v, i) => v + other[i]!),
        { rtol: 1e-5, atol: 1e-6 },
      );
      gpu.free(gradient!);
      tape.close();
      gpu.free(input);
      gpu.free(last);
    });
  });
}
