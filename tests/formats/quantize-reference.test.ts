/** Quantizing on the CPU, which the kernels are held to, against every byte that bitsandbytes wrote. */
import { expect, test } from "bun:test";
import { openCheckpoint, readFloats } from "../../core/formats/checkpoint.ts";
import { codeRules, fp4CodeBook, quantize4bit, quantizeAbsmax } from "../../core/formats/nf4.ts";
import { readQuantState } from "../../core/formats/nf4-checkpoint.ts";
import { torchMean } from "../../core/formats/torch-mean.ts";
import { openFolder } from "../../runtime/files/folder.ts";
import { goldenPath } from "../support/reference.ts";
import { f32, sameBits } from "./support.ts";

const open = (name: string) => openCheckpoint(openFolder(goldenPath("turn2", name)));

for (const model of ["qwen3", "gemma3"]) {
  test(`${model}: NF4 codes, absmax, nested absmax and offset are bitsandbytes' bytes`, async () => {
    await using from = await open(`tiny-${model}-bf16`);
    await using to = await open(`tiny-${model}-nf4`);
    const names = [...from.tensors.keys()].filter((name) => to.tensors.has(`${name}.absmax`));
    expect(names).toHaveLength(model === "qwen3" ? 21 : 49);
    for (const name of names) {
      const { codes, absmax } = quantize4bit(await readFloats(from, name));
      const nested = quantizeAbsmax(absmax);
      expect(nested.nestedOffset).toBe((await readQuantState(to, name)).nestedOffset!);
      expect(sameBits(codes, await to.read(name))).toBe(true);
      expect(sameBits(nested.absmax, await to.read(`${name}.absmax`))).toBe(true);
      expect(sameBits(nested.nestedAbsmax, await to.read(`${name}.nested_absmax`))).toBe(true);
      expect(sameBits(nested.nestedMap, await to.read(`${name}.nested_quant_map`))).toBe(true);
    }
  });
}

test("FP4: absmax is bitsandbytes', and codes are but where a value lies on a threshold to the last bit", async () => {
  await using from = await open("tiny-qwen3-bf16");
  await using to = await open("tiny-qwen3-fp4");
  const names = [...from.tensors.keys()].filter((name) => to.tensors.has(`${name}.absmax`));
  let [others, weights] = [0, 0];
  for (const name of names) {
    const values = await readFloats(from, name);
    const { codes, absmax } = quantize4bit(values, { quantType: "fp4" });
    expect(sameBits(f32(await to.read(`${name}.quant_map`)), fp4CodeBook)).toBe(true);
    expect(sameBits(absmax, f32(await to.read(`${name}.absmax`)))).toBe(true);
    (await to.read(name)).forEach((byte, k) => {
      weights += 2;
      for (const [i, shift] of [
        [2 * k, 4],
        [2 * k + 1, 0],
      ] as const) {
        if (((byte >> shift) & 15) === ((codes[k]! >> shift) & 15)) continue;
        others++;
        // bitsandbytes' kernel multiplies by the GPU's approximate reciprocal here, one bit off now and then.
        const scaled = Math.abs(values[i]! / absmax[Math.floor(i / 64)]!);
        const nearest = Math.min(...codeRules.fp4.thresholds.map((t) => Math.abs(t - scaled) / t));
        expect(nearest).toBeLessThan(2 ** -22);
      }
    });
  }
  expect(weights).toBe(516_096);
  expect(others).toBe(38);
});

test("torch's mean on a GPU: lanes, vectors and workgroups, whose order decides the last bit", () => {
  // In f64, since no recorded sum is as long: what is left of 2^24 + 1 ones tells that the parts are summed apart.
  const ones = new Float32Array(200_000).fill(1);
  expect(torchMean(ones)).toBe(Math.fround(200_000 * Math.fround(1 / 200_000)));
  for (const size of [1, 2, 31, 128, 129, 131, 640, 5000, 131_072, 802_816]) {
    const values = Float32Array.from({ length: size }, (_, i) => Math.sin(i + 1) ** 2);
    const exact = values.reduce((sum, value) => sum + value, 0) / size;
    expect(Math.abs(torchMean(values) / exact - 1)).toBeLessThan(4e-7);
  }
});
