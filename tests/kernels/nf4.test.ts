import { describe, expect, test } from "bun:test";
import type { Gpu } from "../../core/device/gpu.ts";
import type { Tier } from "../../core/device/probe.ts";
import {
  dequantize4bit,
  nf4CodeBook,
  quantizeAbsmax,
  quantize4bit,
  type WeightDType,
  type Packed4bit,
} from "../../core/formats/nf4.ts";
import { dequantize, freeWeight, quantize, upload4bit } from "../../kernels/nf4/index.ts";
import { openSafetensors } from "../../runtime/files/folder.ts";
import { f32, sameBits } from "../formats/support.ts";
import { gpuOf, normals, runSeed, tensorOf, tiers } from "../support/gpu.ts";
import { goldenPath } from "../support/reference.ts";

/** The dequantized weight as the GPU gives it, rows from `firstRow` on. */
async function dequantized(gpu: Gpu, raw: Packed4bit, dtype: "f32" | "f16", firstRow = 0): Promise<Float32Array> {
  const weight = upload4bit(gpu, raw, "test");
  const out = gpu.alloc([raw.shape[0] - firstRow, raw.shape[1]], dtype, "out");
  dequantize(gpu, weight, out, firstRow);
  const values = await gpu.readFloats(out);
  gpu.free(out);
  freeWeight(gpu, weight);
  return values;
}

const dtypes = (tier: Tier): ("f32" | "f16")[] => (tier === "f32" ? ["f32"] : ["f32", "f16"]);

for (const tier of tiers) {
  describe(`nf4, tier ${tier} (seed ${runSeed})`, () => {
    test("bitsandbytes' golden weight, both dequantizations bit-equal", async () => {
      const gpu = await gpuOf(tier);
      await using file = await openSafetensors(goldenPath("nf4", "golden.safetensors"));
      const raw: Packed4bit = {
        shape: [96, 192],
        dtype: "bfloat16",
        codes: await file.read("packed"),
        codeBook: f32(await file.read("quant_map")),
        absmax: await file.read("absmax_u8"),
        nestedAbsmax: f32(await file.read("nested_absmax")),
        nestedMap: f32(await file.read("nested_quant_map")),
        nestedOffset: f32(await file.read("offset"))[0]!,
      };
      const want = f32(await file.read("dequantised_bf16"));
      expect(sameBits(await dequantized(gpu, raw, "f32"), want)).toBe(true);
      expect(
        sameBits(await dequantized(gpu, { ...raw, dtype: "float32" }, "f32"), f32(await file.read("dequantised_f32"))),
      ).toBe(true);
      expect(sameBits(await dequantized(gpu, raw, "f32", 8), want.slice(8 * 192))).toBe(true);
      if (gpu.computeDtype === "f16") {
        expect(sameBits(await dequantized(gpu, raw, "f16"), Float32Array.from(Float16Array.from(want)))).toBe(true);
      }
    });

    test("quantizes the golden weight to bitsandbytes' codes", async () => {
      const gpu = await gpuOf(tier);
      await using file = await openSafetensors(goldenPath("nf4", "golden.safetensors"));
      const weight = f32(await file.read("weight"));
      const { codes, absmax } = await quantized(gpu, weight);
      expect(sameBits(codes, await file.read("packed"))).toBe(true);
      expect(sameBits(absmax, quantize4bit(weight).absmax)).toBe(true);
    });

    test("quantizes odd sizes, wide ranges, zeros and exact ties as the CPU does", async () => {
      const gpu = await gpuOf(tier);
      for (const size of [1, 63, 65, 64 * 300 + 17]) {
        const values = normals(size, runSeed + size).map((v, i) => v * 2 ** ((Math.floor(i / 64) % 120) - 60));
        values.fill(0, 64 * 3, 64 * 4);
        const want = quantize4bit(values);
        const got = await quantized(gpu, values);
        expect(sameBits(got.absmax, want.absmax)).toBe(true);
        expect(sameBits(got.codes, want.codes)).toBe(true);
      }
      const ties = Float32Array.of(
        1,
        ...Array.from({ length: 15 }, (_, i) => Math.fround((nf4CodeBook[i]! + nf4CodeBook[i + 1]!) / 2)),
      );
      // A tie stays at the lower code: 0, 1, … 14 after the 1.
      expect([...(await quantized(gpu, ties)).codes]).toEqual([0xf0, 0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde]);
    });

    for (const [rows, columns] of [
      [3, 64],
      [17, 257],
      [1, 5],
      [5, 24],
      [64, 192],
    ] as const) {
      for (const dtype of ["bfloat16", "float16", "float32"] as const satisfies readonly WeightDType[]) {
        test(`dequantizes [${rows},${columns}] ${dtype}, absmax nested and plain, bit-equal to the CPU`, async () => {
          const gpu = await gpuOf(tier);
          const { codes, absmax } = quantize4bit(normals(rows * columns, runSeed + rows, 0.05));
          for (const scales of [quantizeAbsmax(absmax), { absmax }]) {
            const raw: Packed4bit = { shape: [rows, columns], dtype, codes, codeBook: nf4CodeBook, ...scales };
            const want = dequantize4bit(raw);
            for (const out of dtypes(tier)) {
              const rounded = out === "f32" ? want : Float32Array.from(Float16Array.from(want));
              expect(sameBits(await dequantized(gpu, raw, out), rounded)).toBe(true);
            }
          }
        });
      }
    }
  });
}

async function quantized(gpu: Gpu, values: Float32Array): Promise<{ codes: Uint8Array; absmax: Float32Array }> {
  const source = tensorOf(gpu, values, [values.length], "f32");
  const codes = gpu.alloc([Math.ceil(values.length / 8)], "u32", "codes");
  const absmax = gpu.alloc([Math.ceil(values.length / 64)], "f32", "absmax");
  quantize(gpu, source, codes, absmax);
  const bytes = (await gpu.readBytes(codes)).subarray(0, Math.ceil(values.length / 2));
  const scales = await gpu.readFloats(absmax);
  for (const tensor of [source, codes, absmax]) gpu.free(tensor);
  return { codes: bytes, absmax: scales };
}
