import { describe, expect, test } from "bun:test";
import { accumulate } from "../../core/compute/accumulate.ts";
import type { Gpu } from "../../core/device/gpu.ts";
import type { ProfileLine } from "../../core/device/profile.ts";
import { visiblePairs } from "../../kernels/attention/flops.ts";
import { attentionForward } from "../../kernels/attention/index.ts";
import { matmulNN } from "../../kernels/matmul/index.ts";
import { openGpu } from "../../runtime/device/open.ts";
import { gpuOf, tiers } from "../support/gpu.ts";

test("visible pairs are those that a mask, counted pair by pair, lets through", () => {
  const cuSeqlens = [0, 1, 8, 30, 31];
  for (const window of [0, 1, 5, 22, 100]) {
    let pairs = 0;
    for (let query = 0; query < 31; query++) {
      for (let key = 0; key <= query; key++) {
        const together =
          cuSeqlens.filter((start) => start <= query).length === cuSeqlens.filter((s) => s <= key).length;
        if (together && (window === 0 || query - key < window)) pairs++;
      }
    }
    expect(visiblePairs(cuSeqlens, window)).toBe(pairs);
  }
});

for (const tier of tiers) {
  describe(`profile, tier ${tier}`, () => {
    const profiled = async (gpu: Gpu, work: () => void): Promise<ProfileLine[]> => {
      gpu.profileStart();
      work();
      return gpu.profileEnd();
    };

    test("a kernel that names no work moves its tensors once", async () => {
      const gpu = await gpuOf(tier);
      const [into, source] = [1, 2].map(() => gpu.upload(new Float32Array(1000), [1000], "f32", "x"));
      const lines = await profiled(gpu, () => {
        accumulate(gpu, into!, source!);
        accumulate(gpu, into!, source!);
      });
      expect(lines).toEqual([{ key: "add/f32", calls: 2, ms: lines[0]!.ms, flops: 0, bytes: 16_000 }]);
      for (const tensor of [into!, source!]) gpu.free(tensor);
    });

    test("a product of [3,5] and [5,4] is 120 operations", async () => {
      const gpu = await gpuOf(tier);
      const tensors = [[3, 5] as const, [5, 4] as const, [3, 4] as const].map((shape) => gpu.alloc(shape, "f32", "x"));
      const lines = await profiled(gpu, () => matmulNN(gpu, tensors[0]!, tensors[1]!, tensors[2]!));
      expect(lines.reduce((sum, { flops }) => sum + flops, 0)).toBe(120);
      for (const tensor of tensors) gpu.free(tensor);
    });

    test("attention counts the pairs it is told of", async () => {
      const gpu = await gpuOf(tier);
      const segments = gpu.upload(Uint32Array.of(0, 2, 0, 2), [2, 2], "u32", "segments");
      const [q, k, v, out] = [2, 1, 1, 2].map((heads) => gpu.alloc([2, heads * 32], gpu.computeDtype, "x"));
      const lse = gpu.alloc([2, 2], "f32", "lse");
      const shape = { heads: 2, kvHeads: 1, headDim: 32, scale: 1, softcap: 0, window: 0, maxSeqlen: 2 } as const;
      const options = { ...shape, segments, pairs: visiblePairs([0, 2], 0) } as const;
      const [line] = await profiled(gpu, () => attentionForward(gpu, { q: q!, k: k!, v: v!, out: out!, lse }, options));
      // 3 pairs, 2 heads, 2 products of 32 multiplications and additions
      expect(line!.flops).toBe(3 * 2 * 2 * 32 * 2);
      for (const tensor of [segments, q!, k!, v!, out!, lse]) gpu.free(tensor);
    });
  });
}

describe.skipIf(tiers.length === 0)("a device that is lost while it is profiled", () => {
  for (const provider of ["webgpu", "bun-webgpu"] as const) {
    test(`${provider}: is an error where the times are asked for, and nowhere before`, async () => {
      const gpu = await openGpu({ gpu: provider, tier: "f32" });
      const unhandled: unknown[] = [];
      const listener = (reason: unknown): void => void unhandled.push(reason);
      process.on("unhandledRejection", listener);
      try {
        const [into, source] = [1, 2].map(() => gpu.upload(new Float32Array(1000), [1000], "f32", "x"));
        gpu.profileStart();
        for (let n = 0; n < 3; n++) {
          accumulate(gpu, into!, source!);
          gpu.submit();
        }
        gpu.device.destroy();
        await Bun.sleep(50); // the reads of times are refused meanwhile
        expect(await gpu.profileEnd().catch((error: unknown) => error)).toMatchObject({ code: "DEVICE_LOST" });
        expect(unhandled).toEqual([]);
      } finally {
        process.off("unhandledRejection", listener);
      }
    });
  }
});
