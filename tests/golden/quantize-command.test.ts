/** `qlora quantize` writes the files that transformers and bitsandbytes wrote, byte for byte. */
import { describe, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { cp, readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { openCheckpoint, readFloats } from "../../core/formats/checkpoint.ts";
import { dequantize4bit } from "../../core/formats/nf4.ts";
import { read4bit } from "../../core/formats/nf4-checkpoint.ts";
import { quantize } from "../../index.ts";
import { openFolder } from "../../runtime/files/folder.ts";
import { qlora } from "../support/command-line.ts";
import { failure } from "../support/failure.ts";
import { tiers } from "../support/gpu.ts";
import { goldenPath } from "../support/reference.ts";
import { temporaryFolder } from "../support/run.ts";

const turn2 = (name: string): string => goldenPath("turn2", name);

describe.skipIf(tiers.length === 0)("quantize", () => {
  for (const model of ["qwen3", "gemma3"]) {
    test(`${model}: config.json and model.safetensors are those of bitsandbytes`, async () => {
      await using folder = await temporaryFolder();
      const outputDir = join(folder.path, "nf4");
      const { quantized, shards } = await quantize({ model: turn2(`tiny-${model}-bf16`), outputDir });
      expect([quantized, shards]).toEqual([model === "qwen3" ? 21 : 49, 1]);
      const wanted = turn2(`tiny-${model}-nf4`);
      expect((await readdir(outputDir)).toSorted()).toEqual((await readdir(wanted)).toSorted());
      for (const file of await readdir(wanted)) {
        const same = Buffer.compare(await readFile(join(outputDir, file)), await readFile(join(wanted, file)));
        expect([file, same]).toEqual([file, 0]);
      }
    }, 120_000);
  }

  test("qwen3 with modules left in 16 bits, on the command line", async () => {
    await using folder = await temporaryFolder();
    const out = join(folder.path, "dynamic");
    const modules = ["model.layers.0.mlp.down_proj", "model.layers.1.self_attn", "model.layers.2.mlp.gate_proj"];
    const from = turn2("tiny-qwen3-bf16");
    const result = await qlora("quantize", from, "--output", out, "--llm-int8-skip-modules", modules.join(), "--json");
    expect([result.code, JSON.parse(result.stdout).quantized]).toEqual([0, 15]);
    const wanted = turn2("tiny-qwen3-dynamic-nf4");
    for (const file of ["config.json", "model.safetensors"]) {
      expect(Buffer.compare(await readFile(join(out, file)), await readFile(join(wanted, file)))).toBe(0);
    }
  }, 120_000);

  test("FP4 without double quantization, in blocks of 128 and in shards, reads back as it was quantized", async () => {
    await using folder = await temporaryFolder();
    const outputDir = join(folder.path, "fp4");
    const from = turn2("tiny-qwen3-bf16");
    const choice = { bnb4bitQuantType: "fp4", bnb4bitUseDoubleQuant: false, bnb4bitBlocksize: 128 } as const;
    const { shards } = await quantize({ model: from, outputDir, ...choice, maxShardSize: 100_000 });
    expect(shards).toBeGreaterThan(1);
    await using before = await openCheckpoint(openFolder(from));
    await using after = await openCheckpoint(openFolder(outputDir));
    const name = "model.layers.1.mlp.up_proj.weight";
    const [dense, packed] = [await readFloats(before, name), await read4bit(after, name)];
    expect([packed.quantType, packed.blockSize, packed.nestedAbsmax]).toEqual(["fp4", 128, undefined]);
    const back = dequantize4bit(packed, "float32");
    const largest = dense.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
    // FP4's widest step is a third of the absmax.
    expect(back.every((value, i) => Math.abs(value - dense[i]!) <= largest / 6)).toBe(true);
    expect(back.filter((value, i) => Math.abs(value - dense[i]!) < largest / 30).length).toBeGreaterThan(
      back.length / 2,
    );
  }, 120_000);

  test("what is quantized, not empty, or not finite is refused, and nothing is half written", async () => {
    await using folder = await temporaryFolder();
    const outputDir = join(folder.path, "out");
    expect(await failure(quantize({ model: turn2("tiny-qwen3-nf4"), outputDir }))).toContain(
      "none of its linears is in 16",
    );
    const broken = join(folder.path, "broken");
    await cp(turn2("tiny-qwen3-bf16"), broken, { recursive: true });
    const bytes = await readFile(join(broken, "model.safetensors"));
    // Inside down_proj of the first layer, behind a header of this length.
    const at = 8 + Number(bytes.readBigUInt64LE(0)) + 102_656 + 2 * 5;
    bytes.writeUInt16LE(0x7fc0, at);
    await writeFile(join(broken, "model.safetensors"), bytes);
    expect(await failure(quantize({ model: broken, outputDir }))).toContain(
      'tensor "model.layers.0.mlp.down_proj.weight": element 5 is NaN or infinite',
    );
    expect(existsSync(outputDir)).toBe(false);
    expect(await failure(quantize({ model: turn2("tiny-qwen3-bf16"), outputDir: broken }))).toContain(
      "expected a new or empty folder",
    );
    expect(await readdir(folder.path)).toEqual(["broken"]);
  }, 120_000);
});
