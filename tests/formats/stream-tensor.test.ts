/** Loading in pieces gives the bytes that loading whole tensors gives. */
import { describe, expect, test } from "bun:test";
import { NVIDIA, metaGpu } from "../../core/device/meta.ts";
import type { Tensor } from "../../core/device/tensor.ts";
import { openCheckpoint } from "../../core/formats/checkpoint.ts";
import { read4bit } from "../../core/formats/nf4-checkpoint.ts";
import type { TensorSource } from "../../core/formats/safetensors.ts";
import { TensorStream } from "../../core/formats/tensor-stream.ts";
import { upload4bit, weightTensors } from "../../kernels/nf4/index.ts";
import { loadWeight } from "../../kernels/nf4/load.ts";
import { openFolder } from "../../runtime/files/folder.ts";
import { gpuOf, tiers } from "../support/gpu.ts";
import { tinyCheckpoint } from "../support/reference.ts";

/** One tensor "t" of `bytes`, which says how large the reads were. */
function sourceOf(data: Uint8Array<ArrayBuffer>, reads: number[]): TensorSource {
  const readInto = async (_: string, target: Uint8Array, offset = 0): Promise<void> => {
    reads.push(target.length);
    target.set(data.subarray(offset, offset + target.length));
  };
  return {
    tensors: new Map([["t", { dtype: "U8", shape: [data.length], begin: 100, end: 100 + data.length }]]),
    pathOf: () => "memory",
    read: async () => data,
    readInto,
    // oxlint-disable-next-line require-yield -- never called
    async *stream() {
      throw new Error("not used");
    },
    close: async () => {},
    [Symbol.asyncDispose]: async () => {},
  };
}

test("a tensor that the checkpoint lacks is an error that names it, on the meta device too", async () => {
  const gpu = metaGpu(NVIDIA);
  const stream = new TensorStream(gpu, sourceOf(new Uint8Array(8), []));
  const target = gpu.alloc([8], "u8", "target");
  for (const bytes of [undefined, 8]) {
    const error = await stream.copy("gone", target, 0, bytes).catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ code: "TENSOR_MISSING", message: expect.stringContaining("gone") });
  }
});

describe.skipIf(tiers.length === 0)("TensorStream", () => {
  test("copies a tensor of several pieces and a ragged end, and reports each", async () => {
    const gpu = await gpuOf("f32");
    const data = new Uint8Array(36 * 2 ** 20 + 3);
    for (let i = 0; i < data.length; i += 1021) data[i] = i % 251;
    data.fill(77, -5);
    const reads: number[] = [];
    const progress: number[] = [];
    const stream = new TensorStream(gpu, sourceOf(data, reads), (done) => progress.push(done));
    const target = gpu.alloc([data.length], "u8", "target");
    await stream.copy("t", target);
    await stream.finish();
    expect(Buffer.compare(await gpu.readBytes(target), data)).toBe(0);
    expect(Math.max(...reads)).toBeLessThanOrEqual(16 * 2 ** 20);
    expect(progress.at(-1)).toBe(data.length);
    expect(progress.length).toBeGreaterThan(2);
    await stream.copy("t", target, 20 * 2 ** 20, 1000);
    expect((await gpu.readBytes(target)).slice(0, 1000)).toEqual(data.slice(20 * 2 ** 20, 20 * 2 ** 20 + 1000));
    gpu.free(target);
    const host = new Uint8Array(data.length);
    await stream.fill("t", host);
    expect(Buffer.compare(host, data)).toBe(0);
  });

  test("a read that fails leaves the tensor as it was, and what is read afterwards arrives", async () => {
    const gpu = await gpuOf("f32");
    const data = Uint8Array.from({ length: 33 * 2 ** 20 }, (_, i) => (i >> 8) % 253);
    const good = sourceOf(data, []);
    let reads = 0;
    const readInto: TensorSource["readInto"] = async (name, target, offset) => {
      if (++reads === 2) throw new Error("the file has shrunk");
      await good.readInto(name, target, offset);
    };
    using stream = new TensorStream(gpu, { ...good, readInto });
    const target = gpu.alloc([data.length], "u8", "target");
    gpu.write(target, new Uint8Array(data.length).fill(9));
    const error = await stream.copy("t", target).catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ message: "the file has shrunk" });
    const part = await gpu.readBytes(target);
    expect(Buffer.compare(part.subarray(0, 16 * 2 ** 20), data.subarray(0, 16 * 2 ** 20))).toBe(0);
    expect(Buffer.compare(part.subarray(16 * 2 ** 20), new Uint8Array(17 * 2 ** 20).fill(9))).toBe(0);
    await stream.copy("t", target);
    expect(Buffer.compare(await gpu.readBytes(target), data)).toBe(0);
    await stream.finish();
    await stream.copy("t", target, 4, 4); // more may follow
    expect((await gpu.readBytes(target)).subarray(0, 8)).toEqual(data.slice(4, 12));
    gpu.free(target);
  });

  test("pieces take their turn among encoded work", async () => {
    const gpu = await gpuOf("f32");
    using stream = new TensorStream(gpu, sourceOf(Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8), []));
    const [target, before, after] = ["target", "before", "after"].map((label) => gpu.alloc([8], "u8", label)) as [
      Tensor,
      Tensor,
      Tensor,
    ];
    gpu.clear(target);
    gpu.copy(target, before);
    await stream.copy("t", target);
    gpu.copy(target, after);
    expect([...(await gpu.readBytes(before))]).toEqual([0, 0, 0, 0, 0, 0, 0, 0]);
    expect([...(await gpu.readBytes(after))]).toEqual([1, 2, 3, 4, 5, 6, 7, 8]);
    for (const tensor of [target, before, after]) gpu.free(tensor);
  });

  test("an NF4 weight arrives as read4bit and upload4bit bring it", async () => {
    const gpu = await gpuOf("f32");
    await using files = await openCheckpoint(openFolder(tinyCheckpoint));
    for (const [name, outFeatures, inFeatures] of [
      ["model.layers.0.self_attn.k_proj", 64, 128],
      ["model.layers.3.mlp.down_proj", 128, 512],
    ] as const) {
      const spec = { name, layer: 0, outFeatures, inFeatures };
      const streamed = await loadWeight(gpu, new TensorStream(gpu, files), spec);
      const whole = upload4bit(gpu, await read4bit(files, `${name}.weight`, [outFeatures, inFeatures]), name);
      const tensors = weightTensors(streamed);
      for (const [i, tensor] of weightTensors(whole).entries()) {
        expect(await gpu.readBytes(tensors[i]!)).toEqual(await gpu.readBytes(tensor));
      }
      expect({ ...streamed, codes: 0, absmax: 0, nested: 0 }).toEqual({ ...whole, codes: 0, absmax: 0, nested: 0 });
    }
  });
});
