import { describe, expect, test } from "bun:test";
import { gridFor } from "../../core/device/kernel.ts";
import { matrixCeilingSpec, measureRoofline } from "../../kernels/roofline/index.ts";
import { gpuOf, tiers } from "../support/gpu.ts";
import { emulatedMatrixGpu } from "../support/matrix-emulation.ts";

for (const tier of tiers) {
  describe(`roofline, tier ${tier}`, () => {
    test("are rates of this machine, and leave nothing behind", async () => {
      const gpu = await gpuOf(tier);
      const before = gpu.memory.report().used;
      const { flopsPerSecond, bytesPerSecond } = await measureRoofline(gpu);
      // From a phone to ten times the fastest card: outside of it the count or the clock is wrong.
      expect(flopsPerSecond).toBeWithin(1e8, 1e16);
      expect(bytesPerSecond).toBeWithin(1e8, 3e13);
      expect(gpu.memory.report().used).toBe(before);
      gpu.memory.trim();
    });
  });
}

test.skipIf(!tiers.includes("f16"))(
  "the matrix kernel's sums are those of its products (emulated 16x16x16)",
  async () => {
    const unit = { m: 16, n: 16, k: 16, lanes: 32 };
    const gpu = emulatedMatrixGpu(await gpuOf("f16"), unit);
    const seeds = gpu.upload(new Float32Array(8).fill(0.5), [8], "f32", "seeds");
    const sums = gpu.alloc([2 * 4 * 64 * 64], "f32", "sums");
    const turns = 3;
    const kernel = gpu.kernel("roofline/matrix", () => matrixCeilingSpec(unit));
    gpu.dispatch(kernel, [seeds, sums], { rows: turns }, gridFor(2));
    const values = await gpu.readFloats(sums);
    expect(new Set(values)).toEqual(new Set([turns * 16 * 0.5 * 0.5]));
    for (const tensor of [seeds, sums]) gpu.free(tensor);
  },
);
