import { describe, expect, test } from "bun:test";
import { createDynamicMap, nearestCode } from "../../core/formats/dynamic-map.ts";
import {
  bf16BitsToF32,
  bf16ToF32,
  f16ToF32,
  f32ToBf16,
  f32ToBf16Bits,
  f32ToF16,
  roundToBf16,
  roundToF16,
} from "../../core/formats/half.ts";
import {
  dequantize4bit,
  codeOf,
  codeRules,
  nf4CodeBook,
  quantizeAbsmax,
  quantize4bit,
  restoreAbsmax,
  type Packed4bit,
} from "../../core/formats/nf4.ts";
import { openSafetensors } from "../../runtime/files/folder.ts";
import { goldenPath } from "../support/reference.ts";
import { f32, sameBits, sha256 } from "./support.ts";

test("the code book has bitsandbytes' bits", () => {
  const bits = [
    0xbf800000, 0xbf3239b1, 0xbf066b30, 0xbeca32a0, 0xbe91a24d, 0xbe3d353f, 0xbdba7871, 0x00000000, 0x3da2faff,
    0x3e24cae3, 0x3e7c04dd, 0x3ead033a, 0x3ee1a4b8, 0x3f1007ab, 0x3f3913b3, 0x3f800000,
  ];
  expect([...new Uint32Array(nf4CodeBook.buffer)]).toEqual(bits);
});

test("nf4/golden: codes, absmax codes, nested absmax and both dequantizations are bit-equal", async () => {
  await using file = await openSafetensors(goldenPath("nf4", "golden.safetensors"));
  const weight = f32(await file.read("weight"));
  const packed = await file.read("packed");
  const offset = f32(await file.read("offset"))[0]!;

  const { codes, absmax } = quantize4bit(weight);
  expect(sameBits(codes, packed)).toBe(true);

  const nested = quantizeAbsmax(absmax, offset);
  expect(sameBits(nested.absmax, await file.read("absmax_u8"))).toBe(true);
  expect(sameBits(nested.nestedAbsmax, await file.read("nested_absmax"))).toBe(true);
  expect(sameBits(nested.nestedMap, await file.read("nested_quant_map"))).toBe(true);
  expect(sameBits(nf4CodeBook, await file.read("quant_map"))).toBe(true);
  expect(quantizeAbsmax(absmax).nestedOffset).toBe(offset);

  const stored: Packed4bit = { shape: [96, 192], dtype: "bfloat16", codes, codeBook: nf4CodeBook, ...nested };
  expect(sameBits(dequantize4bit(stored, "float32"), await file.read("dequantised_f32"))).toBe(true);
  expect(sameBits(dequantize4bit(stored), await file.read("dequantised_bf16"))).toBe(true);
});

test("both dynamic maps are bit-equal to bitsandbytes'", async () => {
  await using file = await openSafetensors(goldenPath("adamw8bit", "trajectory.safetensors"));
  expect(sameBits(createDynamicMap(true), await file.read("qmap1"))).toBe(true);
  expect(sameBits(createDynamicMap(false), await file.read("qmap2"))).toBe(true);
});

describe("dynamic maps", () => {
  for (const signed of [true, false]) {
    const map = createDynamicMap(signed);
    test(`${signed ? "signed" : "unsigned"}: 256 ascending values with the published ends`, () => {
      expect(map.length).toBe(256);
      for (let i = 1; i < 256; i++) expect(map[i]!).toBeGreaterThan(map[i - 1]!);
      expect(map[0]).toBe(signed ? Math.fround(-0.99296874) : 0);
      expect(map[255]).toBe(1);
    });

    test(`${signed ? "signed" : "unsigned"}: nearest code agrees with a linear search, ties go to the even index`, () => {
      for (let i = 0; i < 255; i++) {
        const middle = Math.fround(Math.fround(map[i]! + map[i + 1]!) * 0.5);
        expect(nearestCode(map, middle)).toBe(i % 2 === 0 ? i : i + 1);
        expect(nearestCode(map, map[i]!)).toBe(i);
      }
      for (let x = -1.25; x <= 1.25; x += 0.00371) {
        const value = Math.fround(x);
        let best = 0;
        for (let i = 1; i < 256; i++) if (Math.abs(map[i]! - value) < Math.abs(map[best]! - value)) best = i;
        expect(nearestCode(map, value)).toBe(best);
      }
      expect(nearestCode(map, Number.NaN)).toBe(0);
      expect(nearestCode(map, Number.NEGATIVE_INFINITY)).toBe(0);
      expect(nearestCode(map, Number.POSITIVE_INFINITY)).toBe(255);
    });
  }
});

describe("quantize4bit", () => {
  test("a tie between two codes stays at the lower one", () => {
    for (let i = 0; i < 15; i++) {
      const middle = Math.fround((nf4CodeBook[i]! + nf4CodeBook[i + 1]!) / 2);
      expect(codeOf(middle, codeRules.nf4)).toBe(i);
      expect(codeOf(Math.fround(middle + 1e-6), codeRules.nf4)).toBe(i + 1);
    }
  });

  test("a block of zeros dequantizes to zeros; an odd tail keeps its padding nibble empty", () => {
    const zeros = quantize4bit(new Float32Array(64));
    expect([...new Set(zeros.codes)]).toEqual([0x77]);
    expect([...zeros.absmax]).toEqual([0]);
    const tail = quantize4bit(Float32Array.of(...new Float32Array(64).fill(2), -4, 4, 1));
    expect([...tail.absmax]).toEqual([2, 4]);
    expect([...tail.codes.subarray(32)]).toEqual([0x0f, 0xa0]);
    const weight: Packed4bit = { shape: [1, 67], dtype: "float32", codeBook: nf4CodeBook, ...tail };
    expect([...dequantize4bit(weight).subarray(64)]).toEqual([-4, 4, Math.fround(nf4CodeBook[10]! * 4)]);
  });

  test("plain absmax is passed through, nested absmax is restored in f32", () => {
    const absmax = Float32Array.of(0.5, 0.25);
    expect(restoreAbsmax({ absmax })).toBe(absmax);
    const nestedMap = createDynamicMap(true);
    const codes = new Uint8Array(300).fill(255, 256);
    const restored = restoreAbsmax({
      absmax: codes,
      nestedAbsmax: Float32Array.of(0.1, 0.3),
      nestedMap,
      nestedOffset: Math.fround(0.7),
    });
    expect(restored[0]).toBe(Math.fround(Math.fround(nestedMap[0]! * Math.fround(0.1)) + Math.fround(0.7)));
    expect(restored[256]).toBe(Math.fround(Math.fround(0.3) + Math.fround(0.7)));
  });
});

describe("sixteen-bit floats", () => {
  test("bfloat16 rounds to nearest even", () => {
    expect(f32ToBf16Bits(1)).toBe(0x3f80);
    expect(f32ToBf16Bits(1 + 2 ** -8)).toBe(0x3f80);
    expect(f32ToBf16Bits(1 + 3 * 2 ** -8)).toBe(0x3f82);
    expect(f32ToBf16Bits(1 + 2 ** -8 + 2 ** -20)).toBe(0x3f81);
    expect(f32ToBf16Bits(-0)).toBe(0x8000);
    expect(f32ToBf16Bits(3.4028234663852886e38)).toBe(0x7f80);
    expect(f32ToBf16Bits(Number.POSITIVE_INFINITY)).toBe(0x7f80);
    expect(bf16BitsToF32(f32ToBf16Bits(Number.NaN))).toBeNaN();
    // The normalizers of Gemma-2 9B and 27B in bfloat16, and of 9B in half precision.
    expect(roundToBf16(Math.sqrt(3584))).toBe(59.75);
    expect(roundToBf16(Math.sqrt(4608))).toBe(68);
    expect(roundToF16(Math.sqrt(3584))).toBe(59.875);
    expect(roundToF16(65520)).toBe(Number.POSITIVE_INFINITY);
  });

  test("every 16-bit pattern survives the way to f32 and back", () => {
    const bits = Uint16Array.from({ length: 65536 }, (_, i) => i);
    const fromBf16 = bf16ToF32(bits);
    const fromF16 = f16ToF32(bits);
    const keeps = (values: Float32Array) => bits.filter((_, i) => !Number.isNaN(values[i]!));
    expect(f32ToBf16(fromBf16.filter((v) => !Number.isNaN(v)))).toEqual(keeps(fromBf16));
    expect(f32ToF16(fromF16.filter((v) => !Number.isNaN(v)))).toEqual(keeps(fromF16));
    expect(sha256(fromBf16.subarray(0, 4))).toBe(sha256(new Uint32Array([0, 0x10000, 0x20000, 0x30000])));
  });
});
