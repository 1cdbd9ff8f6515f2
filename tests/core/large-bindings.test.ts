/** Byte counts beyond 2^31, which bun-webgpu's limits on NVIDIA reach: int32 arithmetic would make them negative. */
import { expect, test } from "bun:test";
import { Gpu } from "../../core/device/gpu.ts";
import { NVIDIA, metaGpu } from "../../core/device/meta.ts";

/** What bun-webgpu tells of an H100. */
const LARGEST = 2 ** 32 - 4;

/** A GPU that does its encoding, on a meta device with bindings of almost 4 GiB. */
function largeGpu(): Gpu {
  const { device, info } = metaGpu({ ...NVIDIA, limits: { ...NVIDIA.limits, maxStorageBufferBindingSize: LARGEST } });
  return new Gpu(device, info);
}

/** Sizes that a dispatch binds on `gpu`. */
function boundSizes(gpu: Gpu, bytes: number): readonly (number | undefined)[] {
  const sizes: (number | undefined)[] = [];
  gpu.device.createBindGroup = ({ entries }) => {
    for (const { resource } of entries) sizes.push((resource as GPUBufferBinding).size);
    return {} as GPUBindGroup;
  };
  const kernel = gpu.kernel("x", () => ({ code: "", bindings: ["write"] }));
  gpu.dispatch(kernel, [gpu.alloc([bytes], "u8", "x")], {}, [1, 1, 1]);
  return sizes;
}

test("a tensor binds all its bytes where a binding may hold almost 4 GiB", () => {
  expect(boundSizes(largeGpu(), 256)).toEqual([256]);
  expect(boundSizes(largeGpu(), 3 * 2 ** 30)).toEqual([3 * 2 ** 30]);
});

test("bytes beyond 2^31 are written in whole words, and the rest behind them", () => {
  const gpu = largeGpu();
  const written: (readonly [at: number, bytes: number])[] = [];
  gpu.device.queue.writeBuffer = (_, at, data, __, size) => {
    written.push([at, size ?? data.byteLength]);
  };
  const bytes = 2 ** 31 + 5;
  gpu.upload(new Uint8Array(bytes), [bytes], "u8", "codes");
  expect(written).toEqual([
    [0, 2 ** 31 + 4],
    [2 ** 31 + 4, 4],
  ]);
});
