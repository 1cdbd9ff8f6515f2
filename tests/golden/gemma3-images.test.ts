/** A Gemma-3 that also sees images classifies texts as its text part does, under the names of transformers' classifier of it. */
import { describe, expect, test } from "bun:test";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { merge } from "../../index.ts";
import { gemma3, lora } from "../../plugins/index.ts";
import { fileHost, openSafetensors, writeSafetensors } from "../../runtime/files/folder.ts";
import { ModelBench, randomSamples } from "../../testing/model-bench.ts";
import { tensorNames, writeGemma3Images } from "../support/gemma3-images.ts";
import { gpuOf, tiers } from "../support/gpu.ts";
import { goldenPath } from "../support/reference.ts";
import { temporaryFolder } from "../support/run.ts";

const adapter = goldenPath("turn2", "parity-gemma3", "adapter");
const old = "base_model.model.model.layers.";
const renamed = "base_model.model.model.language_model.layers.";

/** The reference's adapter under the names that peft has for the larger model. */
async function renameAdapter(folder: string): Promise<void> {
  await mkdir(folder, { recursive: true });
  await using file = await openSafetensors(join(adapter, "adapter_model.safetensors"));
  const tensors = [...file.tensors].map(([name, { dtype, shape }]) => {
    return [name.replace(old, renamed), { dtype, shape, data: () => file.read(name) }] as const;
  });
  await writeSafetensors(join(folder, "adapter_model.safetensors"), tensors, { format: "pt" });
  const config = await readFile(join(adapter, "adapter_config.json"), "utf8");
  await writeFile(join(folder, "adapter_config.json"), config);
}

describe.skipIf(tiers.length === 0)("Gemma-3 of images and text", () => {
  const tier = tiers[0]!;

  test("the text part's logits and gradients, to the bit", async () => {
    await using folder = await temporaryFolder();
    await writeGemma3Images(folder.path);
    const images = join(folder.path, "adapter");
    await renameAdapter(images);
    const run = async (checkpoint: string, initAdapter: string) => {
      const source = gemma3({ checkpoint }).create(fileHost);
      const plugin = lora({ rank: 8, alpha: 16, targetModules: "all-linear" });
      using bench = await ModelBench.open(await gpuOf(tier), source, plugin, { initAdapter });
      const samples = randomSamples([5, 1, 40], 400);
      return { logits: await bench.logits(samples), gradients: await bench.gradients(samples) };
    };
    const got = await run(folder.path, images);
    const want = await run(goldenPath("turn2", "tiny-gemma3-nf4"), adapter);
    expect(got.logits).toEqual(want.logits);
    expect([...got.gradients.keys()]).toEqual([...want.gradients.keys()].map((name) => name.replace(old, renamed)));
    for (const [name, gradient] of want.gradients) {
      expect(got.gradients.get(name.replace(old, renamed))!, name).toEqual(gradient);
    }
  }, 180_000);

  test("merged: a checkpoint that transformers' Gemma3ForSequenceClassification reads", async () => {
    await using folder = await temporaryFolder();
    await writeGemma3Images(folder.path);
    const run = join(folder.path, "adapter");
    await renameAdapter(run);
    const rows = join(folder.path, "rows.jsonl");
    await writeFile(
      rows,
      [
        [2, 5, 9],
        [2, 77, 1],
      ]
        .map((ids) => JSON.stringify({ input_ids: ids }))
        .join("\n"),
    );
    const outputDir = join(folder.path, "merged");
    const { difference } = await merge({
      run,
      files: [rows],
      baseModel: folder.path,
      outputDir,
      device: { tier: "f32" },
      data: { cacheDir: join(folder.path, "cache") },
    });
    // bf16 keeps 8 bits: what merging rounds away moves logits of some 1 in the third digit.
    expect(difference!.max).toBeLessThan(0.05);
    const names = await tensorNames(outputDir);
    expect(names).toContain("model.language_model.layers.0.self_attn.q_norm.weight");
    expect(names).toContain("model.vision_tower.embeddings.weight");
    expect(names).toContain("score.weight");
    expect(names.filter((name) => name.startsWith("language_model.") || name.includes("lm_head"))).toEqual([]);
    const config = JSON.parse(await readFile(join(outputDir, "config.json"), "utf8"));
    expect(config).toMatchObject({
      architectures: ["Gemma3ForSequenceClassification"],
      model_type: "gemma3",
      text_config: { model_type: "gemma3_text", pad_token_id: 0 },
    });
    expect(config.quantization_config).toBeUndefined();
  }, 180_000);

  test("the text model alone merges into the classifier of its own name", async () => {
    await using folder = await temporaryFolder();
    const outputDir = join(folder.path, "merged");
    await merge({ run: adapter, baseModel: goldenPath("turn2", "tiny-gemma3-nf4"), outputDir, rows: 0 });
    const config = JSON.parse(await readFile(join(outputDir, "config.json"), "utf8"));
    expect(config.architectures).toEqual(["Gemma3TextForSequenceClassification"]);
  });
});
