/** Bind groups are made once for the same buffers, and given up before there are too many of them. */
import { describe, expect, test } from "bun:test";
import { Gpu } from "../../core/device/gpu.ts";
import { NVIDIA, metaGpu } from "../../core/device/meta.ts";
import type { Kernel } from "../../core/device/pipelines.ts";
import type { Tensor } from "../../core/device/tensor.ts";
import { openGpu } from "../../runtime/device/open.ts";
import { tiers } from "../support/gpu.ts";

const COPY = `@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@compute @workgroup_size(1) fn main() { y[0] = x[0] + 1.0; }`;

const copyKernel = (gpu: Gpu): Kernel => gpu.kernel("copy", () => ({ code: COPY, bindings: ["read", "write"] }));

/** Binds `count` different pairs of buffers. */
function bindPairs(gpu: Gpu, tensors: readonly Tensor[], count: number): void {
  const kernel = copyKernel(gpu);
  for (let i = 0; i < count; i++) {
    const [from, to] = [tensors[Math.floor(i / 128)]!, tensors[256 + (i % 128)]!];
    gpu.dispatch(kernel, [from, to], {}, [1, 1, 1]);
  }
}

const many = (gpu: Gpu): readonly Tensor[] => Array.from({ length: 384 }, (_, i) => gpu.alloc([1], "f32", `${i}`));

test("a group is made once for the same buffers; beyond 16,384 all are destroyed", () => {
  const { device, info } = metaGpu(NVIDIA);
  const counts = { made: 0, destroyed: 0 };
  device.createBindGroup = () => {
    counts.made++;
    return { destroy: () => counts.destroyed++ } as unknown as GPUBindGroup;
  };
  const gpu = new Gpu(device, info);
  const tensors = many(gpu);
  for (let time = 0; time < 2; time++) bindPairs(gpu, tensors, 16_384);
  expect(counts).toEqual({ made: 16_384, destroyed: 0 });
  bindPairs(gpu, [tensors.at(-1)!, ...tensors.slice(1)], 1);
  expect(counts).toEqual({ made: 16_385, destroyed: 16_384 });
  gpu.destroy();
  expect(counts).toEqual({ made: 16_385, destroyed: 16_385 });
});

describe.skipIf(tiers.length === 0)("on a device", () => {
  for (const provider of ["webgpu", "bun-webgpu"] as const)
    test(`${provider}: work that is encoded keeps the groups that are given up`, async () => {
      const gpu = await openGpu({ gpu: provider, tier: "f32" });
      try {
        const tensors = many(gpu);
        const chain = Array.from({ length: 41 }, () => gpu.upload(Float32Array.of(5), [1], "f32", "link"));
        // 64 dispatches are one submit: ten without a group of their own put the limit into the midst of one.
        for (let i = 0; i < 10; i++) bindPairs(gpu, tensors, 1);
        bindPairs(gpu, tensors, 16_384 - 20);
        for (let i = 0; i < 40; i++) gpu.dispatch(copyKernel(gpu), [chain[i]!, chain[i + 1]!], {}, [1, 1, 1]);
        expect(copyKernel(gpu).groups.size).toBe(20);
        expect([...(await gpu.readFloats(chain.at(-1)!))]).toEqual([45]);
      } finally {
        gpu.destroy();
      }
    }, 60_000);
});
