import { describe, expect, test } from "bun:test";
import { accumulate } from "../../core/compute/accumulate.ts";
import { openGpu } from "../../runtime/device/open.ts";
import { tiers } from "../support/gpu.ts";

describe.skipIf(tiers.length === 0)("bounds checks of the driver", () => {
  test("can be turned off with the binding webgpu, which auto then takes", async () => {
    const gpu = await openGpu({ robustness: false, tier: "f32" });
    try {
      expect(gpu.info).toMatchObject({ provider: "webgpu", robustness: false, tier: "f32" });
      const [into, source] = [1, 2].map((x) => gpu.upload(Float32Array.of(x, 10 * x, 100 * x), [3], "f32", "x"));
      accumulate(gpu, into!, source!);
      expect([...(await gpu.readFloats(into!))]).toEqual([3, 30, 300]);
    } finally {
      gpu.destroy();
    }
  });

  test("bun-webgpu cannot: an error that names the way out", async () => {
    const error = await openGpu({ robustness: false, gpu: "bun-webgpu" }).catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ code: "ROBUSTNESS_FIXED", hint: "Use --gpu webgpu." });
  });
});
