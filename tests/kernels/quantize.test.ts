/** Quantizing on the GPU: against the CPU's, which is held to bitsandbytes' bytes, and against those bytes themselves. */
import { describe, expect, test } from "bun:test";
import type { Gpu } from "../../core/device/gpu.ts";
import type { Tensor } from "../../core/device/tensor.ts";
import { TensorStream } from "../../core/formats/tensor-stream.ts";
import { openCheckpoint } from "../../core/formats/checkpoint.ts";
import { finiteTensors } from "../../core/formats/finite.ts";
import { f32ToBf16, f32ToF16, bf16ToF32, f16ToF32 } from "../../core/formats/half.ts";
import { BLOCK_SIZES, quantize4bit, quantizeAbsmax } from "../../core/formats/nf4.ts";
import { readQuantState } from "../../core/formats/nf4-checkpoint.ts";
import type { TensorSource } from "../../core/formats/safetensors.ts";
import { freeWeight, quantize, quantizeScales } from "../../kernels/nf4/index.ts";
import { WeightQuantizer } from "../../kernels/nf4/load-quantized.ts";
import { createDynamicMap } from "../../core/formats/dynamic-map.ts";
import { openFolder } from "../../runtime/files/folder.ts";
import { f32, sameBits } from "../formats/support.ts";
import { failure } from "../support/failure.ts";
import { gpuOf, normals, runSeed, tensorOf, tiers } from "../support/gpu.ts";
import { goldenPath } from "../support/reference.ts";

const NF4 = { quantType: "nf4", blockSize: 64, doubleQuant: true } as const;

async function quantized(gpu: Gpu, values: Tensor, size: number, options: Parameters<typeof quantize>[4]) {
  const codes = gpu.alloc([Math.ceil(size / 8)], "u32", "codes");
  const absmax = gpu.alloc([Math.ceil(size / (options?.blockSize ?? 64))], "f32", "absmax");
  quantize(gpu, values, codes, absmax, options);
  const got = {
    codes: (await gpu.readBytes(codes)).subarray(0, Math.ceil(size / 2)),
    absmax: await gpu.readFloats(absmax),
  };
  for (const tensor of [values, codes, absmax]) gpu.free(tensor);
  return got;
}

for (const tier of tiers) {
  describe(`quantize, tier ${tier} (seed ${runSeed})`, () => {
    test("every block size of both types, odd ends, as the CPU does it", async () => {
      const gpu = await gpuOf(tier);
      for (const blockSize of BLOCK_SIZES) {
        for (const quantType of ["nf4", "fp4"] as const) {
          const size = 3 * 4096 + blockSize + 13;
          const values = normals(size, runSeed + blockSize, 0.1);
          const want = quantize4bit(values, { quantType, blockSize });
          const got = await quantized(gpu, tensorOf(gpu, values, [size], "f32"), size, { quantType, blockSize });
          expect(sameBits(got.absmax, want.absmax)).toBe(true);
          expect(sameBits(got.codes, want.codes)).toBe(true);
        }
      }
    }, 120_000);

    test("values stored as halves and bfloat16 are quantized as what they stand for", async () => {
      const gpu = await gpuOf(tier);
      const values = normals(1000, runSeed, 0.1);
      for (const [dtype, bits, back] of [
        ["bf16", f32ToBf16(values), bf16ToF32],
        ["f16", f32ToF16(values), f16ToF32],
      ] as const) {
        const want = quantize4bit(back(bits));
        const got = await quantized(gpu, gpu.upload(bits, [1000], dtype, "values"), 1000, {});
        expect(sameBits(got.absmax, want.absmax)).toBe(true);
        expect(sameBits(got.codes, want.codes)).toBe(true);
      }
    });

    test("absmax to 8 bits around torch's mean, from one value to more than one workgroup sums", async () => {
      const gpu = await gpuOf(tier);
      for (const blocks of [1, 3, 31, 128, 129, 640, 5003, 131_072 + 256]) {
        const absmax = normals(blocks, runSeed + blocks, 0.05).map(Math.abs);
        const want = quantizeAbsmax(absmax);
        const values = new Float32Array(257 + Math.ceil(blocks / 256));
        values.set(createDynamicMap(true));
        const nested = gpu.upload(values, [values.length], "f32", "nested");
        const codes = gpu.alloc([Math.ceil(blocks / 4)], "u32", "codes");
        const scales = tensorOf(gpu, absmax, [blocks], "f32");
        quantizeScales(gpu, scales, codes, nested);
        const got = await gpu.readFloats(nested);
        expect(got[256]).toBe(want.nestedOffset);
        expect(sameBits(got.slice(257), want.nestedAbsmax)).toBe(true);
        expect(sameBits((await gpu.readBytes(codes)).subarray(0, blocks), want.absmax)).toBe(true);
        for (const tensor of [scales, codes, nested]) gpu.free(tensor);
      }
    }, 120_000);
  });
}

const [tier] = tiers;
describe.skipIf(tier === undefined)("quantized as it is loaded", () => {
  const open = async (name: string) =>
    finiteTensors(await openCheckpoint(openFolder(goldenPath("turn2", name))), false);
  const matrices = (source: TensorSource, to: TensorSource) =>
    [...source.tensors].flatMap(([key, { shape }]) =>
      to.tensors.has(`${key}.absmax`)
        ? [{ name: key.replace(/\.weight$/, ""), outFeatures: shape[0]!, inFeatures: shape[1]! }]
        : [],
    );

  for (const model of ["qwen3", "gemma3"]) {
    test(`${model}: codes, absmax, nested absmax, map and offset have every byte of bitsandbytes'`, async () => {
      const gpu = await gpuOf(tier!);
      await using from = await open(`tiny-${model}-bf16`);
      await using to = await open(`tiny-${model}-nf4`);
      const specs = matrices(from, to);
      expect(specs).toHaveLength(model === "qwen3" ? 21 : 49);
      using stream = new TensorStream(gpu, from);
      const quantizer = new WeightQuantizer(gpu, stream, specs.length);
      for (const spec of specs) {
        const weight = await quantizer.load(spec, NF4);
        const key = `${spec.name}.weight`;
        const bytes = async (tensor: Tensor, like: string) =>
          (await gpu.readBytes(tensor)).subarray(0, (await to.read(like)).byteLength);
        expect(sameBits(await bytes(weight.codes, key), await to.read(key))).toBe(true);
        expect(sameBits(await bytes(weight.absmax, `${key}.absmax`), await to.read(`${key}.absmax`))).toBe(true);
        const nested = await gpu.readFloats(weight.nested as Tensor);
        expect(sameBits(nested.slice(0, 256), f32(await to.read(`${key}.nested_quant_map`)))).toBe(true);
        expect(sameBits(nested.slice(257), f32(await to.read(`${key}.nested_absmax`)))).toBe(true);
        expect(nested[256]).toBe((await readQuantState(to, key)).nestedOffset);
        expect(weight.rounding).toBe("bf16");
        freeWeight(gpu, weight);
      }
      await quantizer.finish();
    }, 120_000);
  }

  test("a value that is not finite is told by tensor and element", async () => {
    const gpu = await gpuOf(tier!);
    const bits = f32ToBf16(normals(64 * 128, runSeed));
    bits[777] = 0x7fc0;
    const info = { dtype: "BF16", shape: [64, 128], begin: 0, end: bits.byteLength } as const;
    const bytes = new Uint8Array(bits.buffer);
    const source: TensorSource = {
      tensors: new Map([["a.weight", info]]),
      pathOf: () => "file",
      read: async () => bytes.slice(),
      readInto: async (_, target, offset = 0) => target.set(bytes.subarray(offset, offset + target.length)),
      async *stream() {
        yield bytes.slice();
      },
      close: async () => {},
      [Symbol.asyncDispose]: async () => {},
    };
    using stream = new TensorStream(gpu, finiteTensors(source, false));
    const quantizer = new WeightQuantizer(gpu, stream, 1);
    freeWeight(gpu, await quantizer.load({ name: "a", outFeatures: 64, inFeatures: 128 }, NF4));
    expect(await failure(quantizer.finish())).toContain(
      'file: tensor "a.weight": element 777 is NaN or infinite, expected a finite number',
    );
  });
});
