/** What the allocator does at its limit and where the driver refuses; on the meta device, so that it needs no GPU. */
import { describe, expect, test } from "bun:test";
import type { Gpu } from "../../core/device/gpu.ts";
import { NVIDIA, metaGpu } from "../../core/device/meta.ts";
import { DeviceError } from "../../core/errors.ts";

const MIB = 2 ** 20;

describe("memory", () => {
  test("a refused allocation is an error that names it, what is held, and what to lower", async () => {
    const gpu = metaGpu({ ...NVIDIA, capacity: 100 * MIB });
    const weights = gpu.alloc([64 * MIB], "u8", "codes", "weights");
    await gpu.idle();
    gpu.alloc([40 * MIB], "u8", "gate activations");
    const error = await gpu.idle().then(
      () => undefined,
      (thrown: unknown) => thrown as DeviceError,
    );
    expect(error).toBeInstanceOf(DeviceError);
    expect(error?.code).toBe("OUT_OF_MEMORY");
    expect(error?.message).toContain("gate activations");
    expect(error?.message).toContain("weights 64.0 MiB");
    expect(error?.hint).toContain("--memory lean");
    gpu.free(weights);
  });

  test("a lost device says that it may be memory, and a device that says so is believed", async () => {
    const { deviceFailure } = await import("../../core/device/failure.ts");
    const memory = metaGpu(NVIDIA).memory.report();
    expect(deviceFailure([], undefined, memory)).toBeUndefined();
    expect(deviceFailure(["bad binding"], undefined, memory)?.code).toBe("DEVICE_ERROR");
    expect(deviceFailure(["[Buffer] is invalid"], "unknown: vkQueueSubmit", memory)?.code).toBe("DEVICE_LOST");
    // The refused buffer is told, not the invalid bind groups that follow from it.
    for (const told of ["VK_ERROR_OUT_OF_DEVICE_MEMORY", "E_OUTOFMEMORY", "Out of memory"]) {
      expect(deviceFailure(["[Buffer] is invalid", told], undefined, memory)?.code).toBe("OUT_OF_MEMORY");
      expect(deviceFailure([], `device lost: ${told}`, memory)?.code).toBe("OUT_OF_MEMORY");
    }
  });

  test("work that is still encoded when the device is closed is dropped: its tensors are gone", () => {
    const gpu = metaGpu(NVIDIA);
    let submitted = 0;
    gpu.device.queue.submit = () => {
      submitted++;
    };
    const [from, to, pooled] = ["from", "to", "pooled"].map((name) => gpu.alloc([256], "u8", name));
    gpu.copy(from!, to!);
    gpu.free(pooled!);
    gpu.destroy();
    expect(submitted).toBe(0);
  });

  test("the pool is given up before used and pooled bytes pass the limit together", () => {
    const gpu = metaGpu(NVIDIA);
    gpu.memory.limit = 100 * MIB;
    const first = gpu.alloc([60 * MIB], "u8", "first");
    gpu.free(first);
    gpu.free(gpu.alloc([60 * MIB], "u8", "the same again"));
    expect(gpu.memory.report().pooled).toBe(60 * MIB);
    const larger = gpu.alloc([80 * MIB], "u8", "larger");
    expect(gpu.memory.report()).toMatchObject({ used: 80 * MIB, pooled: 0, peak: 80 * MIB });
    gpu.free(larger);
  });

  test("what lives as long as the model takes its own bytes, and serves others when it is freed", () => {
    const gpu = metaGpu(NVIDIA);
    const { memory } = gpu;
    const bytes = 25_690_112; // 14336 x 3584 codes of four bits: between the classes of 24 and 26 MiB
    const weights = ["weights", "adapter", "gradients", "optimizer"] as const;
    const tensors = weights.map((purpose) => gpu.alloc([bytes], "u8", purpose, purpose));
    expect(memory.report().used).toBe(4 * bytes);
    for (const tensor of tensors) gpu.free(tensor);
    expect(memory.report()).toMatchObject({ used: 0, pooled: 4 * bytes });
    const again = gpu.alloc([bytes - 5], "u8", "again", "weights");
    expect(memory.report()).toMatchObject({ used: bytes, pooled: 3 * bytes });
    // The class below it, which it is large enough for; the one above, which it is not.
    const below = gpu.alloc([24 * MIB], "u8", "below");
    expect(memory.report()).toMatchObject({ used: 2 * bytes, pooled: 2 * bytes });
    const above = gpu.alloc([bytes], "u8", "above");
    expect(memory.report()).toMatchObject({
      used: 2 * bytes + 26 * MIB,
      pooled: 2 * bytes,
      peak: 4 * bytes + 26 * MIB,
    });
    for (const tensor of [again, below, above]) gpu.free(tensor);
    memory.trim();
    expect(memory.report()).toMatchObject({ used: 0, pooled: 0 });
  });

  test("a new measurement gives up the pool as a fresh allocator would, whatever was in use before", () => {
    const grow = (gpu: Gpu): number => {
      for (const size of [500, 800, 1300]) gpu.free(gpu.alloc([size * MIB], "u8", `${size}`));
      return gpu.memory.report().peak;
    };
    const fresh = metaGpu(NVIDIA);
    const used = metaGpu(NVIDIA);
    const large = [1, 2, 3, 4].map((name) => used.alloc([1900 * MIB], "u8", `${name}`));
    for (const tensor of large) used.free(tensor);
    used.memory.trim();
    used.memory.resetPeak();
    expect(grow(used)).toBe(grow(fresh));
  });
});
