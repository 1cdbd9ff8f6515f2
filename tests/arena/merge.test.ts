/** Merging against the arithmetic done anew in f64, and the measured difference. */
import { describe, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { cp, mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { openCheckpoint, readFloats } from "../../core/formats/checkpoint.ts";
import { defineAdapter, defineOptions } from "../../core/index.ts";
import { merge, type MergeRequest } from "../../index.ts";
import { gemma2, ia3 } from "../../plugins/index.ts";
import { fileHost, openFolder, openSafetensors } from "../../runtime/files/folder.ts";
import { mergedConfig } from "../../sdk/merge/config.ts";
import { mergeAdapter } from "../../sdk/merge/index.ts";
import { sameBits } from "../formats/support.ts";
import { failure } from "../support/failure.ts";
import { tiers } from "../support/gpu.ts";
import { readNf4 } from "../support/nf4.ts";
import { goldenPath, tinyCheckpoint } from "../support/reference.ts";
import { temporaryFolder } from "../support/run.ts";

/** Which bf16 is nearest to an f64, and whether two are as near as makes no difference. */
function nearestBf16(value: number): { readonly bits: number; readonly tie: boolean } {
  const view = new DataView(new ArrayBuffer(4));
  view.setFloat32(0, value);
  const f32 = view.getUint32(0);
  const valueOf = (bits: number): number => {
    view.setUint32(0, bits << 16);
    return view.getFloat32(0);
  };
  if (value === 0) return { bits: f32 >>> 16, tie: false };
  // The f32 may have been rounded up across a bf16: look at three candidates.
  const near = [(f32 >>> 16) - 1, f32 >>> 16, (f32 >>> 16) + 1].map((bits) => ({
    bits,
    off: Math.abs(valueOf(bits) - value),
  }));
  const [first, second] = near.sort((a, b) => a.off - b.off) as [(typeof near)[0], (typeof near)[0]];
  return { bits: first.bits, tie: second.off - first.off <= 1e-6 * Math.abs(value) };
}

/** bitsandbytes' dequantization, spelled out from its tensors: every product and sum rounded to f32, then to bf16. */
async function dequantized(base: string, name: string): Promise<Float64Array> {
  await using file = await openSafetensors(join(base, "model.safetensors"));
  const view = new DataView(new ArrayBuffer(4));
  return await readNf4(file, name, ({ level, map, nested, offset }) => {
    const scale = Math.fround(Math.fround(map * nested) + Math.fround(offset));
    const { bits } = nearestBf16(Math.fround(level * scale));
    view.setUint32(0, bits << 16);
    return view.getFloat32(0);
  });
}

const bf16 = async (folder: string, name: string): Promise<Uint16Array> => {
  await using checkpoint = await openCheckpoint(openFolder(folder));
  expect(checkpoint.tensors.get(name)!.dtype).toBe("BF16");
  return new Uint16Array((await checkpoint.read(name)).buffer);
};

/** Counts weights that are not the nearest bf16; exact ties may fall to either side. */
function wrong(got: Uint16Array, want: Float64Array): { readonly wrong: number; readonly ties: number } {
  let [bad, ties] = [0, 0];
  expect(got.length).toBe(want.length);
  want.forEach((value, i) => {
    const nearest = nearestBf16(value);
    if (nearest.tie) ties++;
    else if (nearest.bits !== got[i]) bad++;
  });
  return { wrong: bad, ties };
}

describe("merge", () => {
  const lora = goldenPath("parity-tiny", "adapter");
  const merged = (run: string, outputDir: string, parts: Partial<MergeRequest> = {}) =>
    merge({ run, outputDir, baseModel: tinyCheckpoint, rows: 0, ...parts });
  const adapterValues = async (run: string, name: string): Promise<Float32Array> => {
    await using file = await openSafetensors(join(run, "adapter_model.safetensors"));
    return readFloats(file, name);
  };

  test("LoRA: the nearest bf16 of W + scale B A, weight by weight; the rest as it was", async () => {
    await using folder = await temporaryFolder();
    const out = join(folder.path, "merged");
    const { difference, shards, tensors } = await merged(lora, out);
    expect(difference).toBeUndefined();
    expect(shards).toBe(1);
    const config = JSON.parse(await readFile(join(lora, "adapter_config.json"), "utf8"));
    const [rank, scale] = [config.r as number, config.lora_alpha / config.r];
    for (const [linear, inFeatures] of [
      ["model.layers.1.self_attn.q_proj", 128],
      ["model.layers.3.mlp.gate_proj", 128],
    ] as const) {
      const a = await adapterValues(lora, `base_model.model.${linear}.lora_A.weight`);
      const b = await adapterValues(lora, `base_model.model.${linear}.lora_B.weight`);
      const want = (await dequantized(tinyCheckpoint, `${linear}.weight`)).map((weight, i) => {
        const [row, column] = [Math.floor(i / inFeatures), i % inFeatures];
        let sum = 0;
        for (let r = 0; r < rank; r++) sum += b[row * rank + r]! * a[r * inFeatures + column]!;
        return weight + scale * sum;
      });
      const count = wrong(await bf16(out, `${linear}.weight`), want);
      expect(count.wrong).toBe(0);
      expect(count.ties).toBeLessThan(want.length / 50);
    }
    // Layer 0 and down_proj have no adapter.
    const bare = "model.layers.0.mlp.down_proj.weight";
    expect(wrong(await bf16(out, bare), await dequantized(tinyCheckpoint, bare)).wrong).toBe(0);

    await using base = await openCheckpoint(openFolder(tinyCheckpoint));
    await using written = await openCheckpoint(openFolder(out));
    for (const name of ["model.embed_tokens.weight", "model.norm.weight", "model.layers.2.input_layernorm.weight"])
      expect(Buffer.compare(await written.read(name), await base.read(name)), name).toBe(0);
    const head = Float64Array.from(await adapterValues(lora, "base_model.model.score.weight"));
    expect(wrong(await bf16(out, "score.weight"), head).wrong).toBe(0);
    // 1 embedding, 7 linears and 4 norms in each of 4 layers, the last norm, the head.
    expect([tensors, written.tensors.size]).toEqual([47, 47]);
  });

  test("config.json is a classifier's, floats still floats; the tokenizer comes along", async () => {
    await using folder = await temporaryFolder();
    const out = join(folder.path, "merged");
    await merged(lora, out);
    const text = await readFile(join(out, "config.json"), "utf8");
    const config = JSON.parse(text);
    expect(config).toMatchObject({
      architectures: ["Gemma2ForSequenceClassification"],
      dtype: "bfloat16",
      id2label: { 0: "LABEL_0", 1: "LABEL_1", 2: "LABEL_2" },
      label2id: { LABEL_0: 0, LABEL_1: 1, LABEL_2: 2 },
      model_type: "gemma2",
      attn_logit_softcapping: 50,
    });
    expect(config.quantization_config).toBeUndefined();
    expect(text).toContain('"rope_theta": 10000.0');
    expect(text).toContain('"rms_norm_eps": 1e-06');
    for (const name of ["tokenizer.json", "tokenizer_config.json"])
      expect(await readFile(join(out, name), "utf8")).toBe(await readFile(join(tinyCheckpoint, name), "utf8"));
    expect(existsSync(join(out, "generation_config.json"))).toBe(false);
  });

  test("an option of the model that changes what it computes is in config.json", async () => {
    const changed = async (attnLogitSoftcapping: number): Promise<string> => {
      const { configChanges } = gemma2({ checkpoint: tinyCheckpoint, attnLogitSoftcapping }).create(fileHost);
      return mergedConfig(tinyCheckpoint, configChanges!, { numLabels: 3, task: "classification" });
    };
    expect(await changed(0)).toContain('"attn_logit_softcapping": null');
    expect(await changed(30)).toContain('"attn_logit_softcapping": 30.0');
  });

  test("an adapter whose plugin cannot merge is refused by name", async () => {
    await using folder = await temporaryFolder();
    const outputDir = join(folder.path, "merged");
    const plain = defineAdapter({
      name: "plain",
      options: defineOptions({}),
      reads: () => true,
      optionsFrom: () => ({}),
      create: async () => ({
        parameters: [],
        adapt: (spec, weight) => ({ spec, weight }),
        save: async () => [],
        load: async () => new Map(),
      }),
    });
    const request = { run: lora, outputDir, baseModel: tinyCheckpoint, rows: 0 };
    const act = mergeAdapter(request, { shipped: [gemma2, plain], from: folder.path });
    expect(await failure(act)).toBe(`ModelError: ${lora}: adapter plain cannot be merged`);
    expect(existsSync(outputDir)).toBe(false);
  });

  test("DoRA: rows of W + scale B A at the trained lengths", async () => {
    await using folder = await temporaryFolder();
    const [run, out] = [goldenPath("plugins", "parity-dora", "adapter"), join(folder.path, "merged")];
    await merged(run, out);
    await using file = await openSafetensors(join(run, "adapter_model.safetensors"));
    const [key] = [...file.tensors.keys()].filter((name) => name.endsWith("q_proj.lora_A.weight"));
    const linear = key!.slice("base_model.model.".length, -".lora_A.weight".length);
    const config = JSON.parse(await readFile(join(run, "adapter_config.json"), "utf8"));
    const [rank, scale] = [config.r as number, config.lora_alpha / config.r];
    const [a, b, length] = await Promise.all(
      ["lora_A.weight", "lora_B.weight", "lora_magnitude_vector"].map((part) =>
        adapterValues(run, `base_model.model.${linear}.${part}`),
      ),
    );
    const inFeatures = a!.length / rank;
    const sums = (await dequantized(tinyCheckpoint, `${linear}.weight`)).map((weight, i) => {
      const [row, column] = [Math.floor(i / inFeatures), i % inFeatures];
      let sum = 0;
      for (let r = 0; r < rank; r++) sum += b![row * rank + r]! * a![r * inFeatures + column]!;
      return weight + scale * sum;
    });
    const want = sums.map((value, i) => {
      const row = Math.floor(i / inFeatures);
      const norm = Math.hypot(...sums.subarray(row * inFeatures, (row + 1) * inFeatures));
      return (value * length![row]!) / norm;
    });
    const got = await bf16(out, `${linear}.weight`);
    expect(wrong(got, want).wrong).toBe(0);
    expect(wrong(got, sums).wrong).toBeGreaterThan(want.length / 4);
  });

  test("(IA)^3: rows of an output, columns of an input, and the bias of an output", async () => {
    await using folder = await temporaryFolder();
    const [run, out] = [goldenPath("plugins", "parity-ia3", "adapter"), join(folder.path, "merged")];
    await merged(run, out);
    for (const [linear, inFeatures, byColumn] of [
      ["model.layers.1.self_attn.k_proj", 128, false],
      ["model.layers.1.mlp.down_proj", 512, true],
    ] as const) {
      const factors = await adapterValues(run, `base_model.model.${linear}.ia3_l`);
      const want = (await dequantized(tinyCheckpoint, `${linear}.weight`)).map(
        (weight, i) => weight * factors[byColumn ? i % inFeatures : Math.floor(i / inFeatures)]!,
      );
      expect(wrong(await bf16(out, `${linear}.weight`), want).wrong).toBe(0);
    }
    const spec = { name: "model.layers.0.self_attn.k_proj", layer: 0, inFeatures: 2, outFeatures: 2 };
    const context = { linears: [spec], head: [], baseModel: "base", seed: 0 };
    const live = await ia3({ targetModules: ["k_proj"] }).create(context);
    const bias = Float32Array.of(1, 2);
    live.mergeBias!(spec, bias, new Map([[`base_model.model.${spec.name}.ia3_l`, Float32Array.of(3, -4)]]));
    expect([...bias]).toEqual([3, -8]);
  });

  test("a base in 16 bits is merged into as it is: once more what was added once", async () => {
    await using folder = await temporaryFolder();
    const dense = join(folder.path, "dense");
    await merged(lora, dense);
    const out = join(folder.path, "again");
    await merged(lora, out, { baseModel: dense, quantization: "none" });
    const name = "model.layers.1.self_attn.k_proj.weight";
    const before = await bf16(tinyCheckpoint, "model.embed_tokens.weight");
    expect(sameBits(await bf16(out, "model.embed_tokens.weight"), before)).toBe(true);
    const linear = "base_model.model.model.layers.1.self_attn.k_proj";
    const [a, b] = [
      await adapterValues(lora, `${linear}.lora_A.weight`),
      await adapterValues(lora, `${linear}.lora_B.weight`),
    ];
    const [once, inFeatures, rank] = [new Uint32Array(await bf16(dense, name)), 128, 8];
    const want = Float64Array.from(once, (bits, i) => {
      const [row, column] = [Math.floor(i / inFeatures), i % inFeatures];
      let sum = 0;
      for (let k = 0; k < rank; k++) sum += b[row * rank + k]! * a[k * inFeatures + column]!;
      return new Float32Array(Uint32Array.of(bits << 16).buffer)[0]! + 2 * sum;
    });
    expect(wrong(await bf16(out, name), want).wrong).toBe(0);
  });

  test("in shards, as the index says", async () => {
    await using folder = await temporaryFolder();
    const [whole, parts] = [join(folder.path, "whole"), join(folder.path, "parts")];
    await merged(lora, whole);
    const { shards, bytes } = await merged(lora, parts, { maxShardSize: 1_000_000 });
    expect(shards).toBe(3);
    const index = JSON.parse(await readFile(join(parts, "model.safetensors.index.json"), "utf8"));
    expect(index.metadata.total_size).toBe(bytes);
    expect(Object.keys(index.weight_map)).toHaveLength(47);
    expect(index.weight_map["model.embed_tokens.weight"]).toBe("model-00001-of-00003.safetensors");
    let total = 0;
    for (const name of new Set(Object.values<string>(index.weight_map))) {
      const { size } = Bun.file(join(parts, name));
      await using file = await openSafetensors(join(parts, name));
      for (const { begin, end } of file.tensors.values()) total += end - begin;
      // The embedding alone is 1 MiB.
      if (file.tensors.size > 1) expect(size).toBeLessThan(1_010_000);
    }
    expect(total).toBe(bytes);
    await using one = await openCheckpoint(openFolder(whole));
    await using many = await openCheckpoint(openFolder(parts));
    expect([...many.tensors.keys()].sort()).toEqual([...one.tensors.keys()].sort());
    for (const name of one.tensors.keys())
      expect(Buffer.compare(await many.read(name), await one.read(name)), name).toBe(0);
  });

  test("a folder that holds something, an adapter that cannot, no rows to measure on", async () => {
    await using folder = await temporaryFolder();
    const refused = (parts: Partial<MergeRequest>): Promise<string> =>
      failure(merged(lora, join(folder.path, "new"), parts));
    await writeFile(join(folder.path, "mine.txt"), "mine");
    expect(await refused({ outputDir: folder.path })).toContain("expected a new or empty folder, found mine.txt");
    expect(await refused({ rows: -1 })).toContain("rows: got -1");
    expect(await refused({ rows: 3 })).toContain("no rows to measure on");
    expect(existsSync(join(folder.path, "new"))).toBe(false);
    const out = join(folder.path, "twice");
    await merged(lora, out);
    await writeFile(join(out, "old.txt"), "old");
    await merged(lora, out, { overwrite: true });
    expect(existsSync(join(out, "old.txt"))).toBe(false);
  });

  test("overwriting deletes no run, no base, no folder of other things", async () => {
    await using folder = await temporaryFolder();
    const [run, base, project] = ["run", "base", "project"].map((name) => join(folder.path, name)) as [
      string,
      string,
      string,
    ];
    await cp(goldenPath("parity-tiny/adapter"), run, { recursive: true });
    await cp(tinyCheckpoint, base, { recursive: true });
    await mkdir(project);
    await writeFile(join(project, "thesis.txt"), "mine");
    const refused = (outputDir: string): Promise<string> =>
      failure(merge({ run, baseModel: base, outputDir, rows: 0, overwrite: true }));
    expect(await refused(run)).toContain("expected a merged checkpoint to overwrite, found adapter_config.json");
    expect(await refused(folder.path)).toContain("expected a merged checkpoint to overwrite, found ");
    expect(await refused(project)).toContain("found no config.json");
    expect(await refused(base)).toContain("expected another folder than that of the base model");
    for (const kept of [
      join(run, "adapter_model.safetensors"),
      join(base, "model.safetensors"),
      join(project, "thesis.txt"),
    ])
      expect(existsSync(kept), kept).toBe(true);
    expect(
      (await readFile(join(base, "model.safetensors"))).equals(
        await readFile(join(tinyCheckpoint, "model.safetensors")),
      ),
    ).toBe(true);
  });
});

describe.skipIf(tiers.length === 0)("the measured difference", () => {
  // What bench/merged_logits.py printed of the same rows: transformers 5.18 on the merged checkpoint, qlora unmerged.
  const kinds = [
    ["lora", "parity-tiny", undefined, { rows: 8, max: 0.0129, mean: 0.0059 }],
    ["dora", "plugins/parity-dora", undefined, { rows: 4, max: 0.0138, mean: 0.0046 }],
    ["ia3", "plugins/parity-ia3", undefined, { rows: 4, max: 0.00986, mean: 0.00469 }],
    // A language model's head of its own, and biases.
    ["lora on llama", "plugins/parity-llama", "plugins/tiny-llama-nf4", { rows: 7, max: 0.0149, mean: 0.00427 }],
    ["lora on qwen2", "plugins/parity-qwen2", "plugins/tiny-qwen2-nf4", { rows: 7, max: 0.00919, mean: 0.00335 }],
  ] as const;
  test.each(kinds)(
    "%s: is what transformers gives of the merged checkpoint",
    async (_, name, base, want) => {
      await using folder = await temporaryFolder();
      const [run, file] = [goldenPath(name, "adapter"), join(folder.path, "rows.jsonl")];
      const reference = JSON.parse(await readFile(goldenPath(name, "reference.json"), "utf8"));
      const { samples } = reference as { samples: { input_ids: number[] }[] };
      const rows = samples.map(({ input_ids }) => JSON.stringify({ input_ids }));
      await writeFile(file, rows.join("\n"));
      const result = await merge({
        run,
        files: [file],
        baseModel: base === undefined ? tinyCheckpoint : goldenPath(base),
        outputDir: join(folder.path, "merged"),
        device: { tier: "f32" },
        data: { cacheDir: join(folder.path, "cache") },
      });
      const { max, mean, rows: measured } = result.difference!;
      expect(measured).toBe(want.rows);
      expect(Math.abs(max / want.max - 1)).toBeLessThan(0.01);
      expect(Math.abs(mean / want.mean - 1)).toBeLessThan(0.01);
      await using written = await openCheckpoint(openFolder(join(folder.path, "merged")));
      expect([...written.tensors.keys()].filter((key) => key.startsWith("lm_head."))).toEqual([]);
      expect(written.tensors.has("model.layers.0.self_attn.q_proj.bias")).toBe(name.endsWith("qwen2"));
    },
    120_000,
  );
});
