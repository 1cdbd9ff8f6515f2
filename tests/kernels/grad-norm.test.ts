import { describe, expect, test } from "bun:test";
import type { Slab } from "../../core/compute/parameters.ts";
import type { Gpu } from "../../core/device/gpu.ts";
import { gradNorm, type GradNormOptions } from "../../kernels/grad-norm/index.ts";
import { gradNormReference } from "../../kernels/grad-norm/reference.ts";
import { expectClose } from "../support/close.ts";
import { gpuOf, normals, runSeed, tensorOf, tiers } from "../support/gpu.ts";

// f32 sums of squares in a tree over at most a few hundred terms a lane: a few 2^-24.
const RTOL = 1e-6;

async function run(gpu: Gpu, grads: readonly Float32Array[], options: GradNormOptions): Promise<Float32Array> {
  const slabs = grads.map((grad, index): Slab => {
    const tensor = tensorOf(gpu, grad, [grad.length], "f32");
    return { index, size: grad.length, value: tensor, grad: tensor, parameters: [] };
  });
  const gradState = gpu.alloc([4], "f32", "gradState");
  gradNorm(gpu, slabs, gradState, options);
  const result = await gpu.readFloats(gradState);
  for (const slab of slabs) gpu.free(slab.grad);
  gpu.free(gradState);
  return result;
}

for (const tier of tiers) {
  describe(`grad-norm, tier ${tier} (seed ${runSeed})`, () => {
    const cases: readonly (readonly [string, readonly number[], number, GradNormOptions])[] = [
      ["one block", [256], 1, { lossScale: 1, maxNorm: 1 }],
      ["one slab, clipped, scaled", [16_640], 65_536, { lossScale: 65_536, maxNorm: 1 }],
      ["three slabs, not clipped", [256, 400_128, 16_384], 1e-4, { lossScale: 4, maxNorm: 1 }],
      ["no limit: 0", [768], 30, { lossScale: 8, maxNorm: 0 }],
      ["no limit: Infinity", [768], 30, { lossScale: 8, maxNorm: Infinity }],
      ["scaled norm of 1e18", [4096], 1e18 / 64, { lossScale: 1024, maxNorm: 0.3 }],
    ];
    for (const [name, sizes, scale, options] of cases) {
      test(name, async () => {
        const grads = sizes.map((size, i) => normals(size, runSeed + i, scale));
        const got = await run(await gpuOf(tier), grads, options);
        expectClose(got, gradNormReference(grads, options), { rtol: RTOL });
      });
    }

    test("zero gradients: norm 0, coefficient 1 / loss scale", async () => {
      const got = await run(await gpuOf(tier), [new Float32Array(512)], { lossScale: 2, maxNorm: 1 });
      expect([...got]).toEqual([0.5, 0, 0, 0]);
    });

    test("no slabs at all", async () => {
      const got = await run(await gpuOf(tier), [], { lossScale: 1, maxNorm: 1 });
      expect([...got]).toEqual([1, 0, 0, 0]);
    });

    test("the same bits every time", async () => {
      const gpu = await gpuOf(tier);
      const grads = [normals(70_400, runSeed), normals(512, runSeed + 1)];
      const first = await run(gpu, grads, { lossScale: 1, maxNorm: 1 });
      expect(await run(gpu, grads, { lossScale: 1, maxNorm: 1 })).toEqual(first);
    });

    for (const bad of [NaN, Infinity, -Infinity]) {
      test(`one ${bad} anywhere asks for a skip`, async () => {
        const gpu = await gpuOf(tier);
        for (const [slab, at] of [
          [0, 0],
          [1, 3],
          [1, 20_223],
        ] as const) {
          const grads = [normals(256, runSeed), normals(20_224, runSeed + 1)];
          grads[slab]![at] = bad;
          expect([...(await run(gpu, grads, { lossScale: 1, maxNorm: 1 }))]).toEqual([0, 1, Infinity, 0]);
        }
      });
    }

    test("finite gradients whose norm leaves f32 ask for a skip", async () => {
      const got = await run(await gpuOf(tier), [new Float32Array(256).fill(3e38)], { lossScale: 1, maxNorm: 1 });
      expect([...got]).toEqual([0, 1, Infinity, 0]);
    });

    test("refuses a loss scale or a limit that makes no sense", async () => {
      const gpu = await gpuOf(tier);
      expect(run(gpu, [], { lossScale: 0, maxNorm: 1 })).rejects.toThrow("loss scale 0");
      expect(run(gpu, [], { lossScale: 1, maxNorm: NaN })).rejects.toThrow("maxNorm NaN");
    });
  });
}
