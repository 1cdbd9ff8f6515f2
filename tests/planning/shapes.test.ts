/** Published models, by what their config.json says: the outline has as many parameters as were published, and a plan is made of each. */
import { describe, expect, test } from "bun:test";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { elementCount } from "../../core/device/tensor.ts";
import { defineConfig, inspect, plan } from "../../index.ts";
import { adamW8bit, gemma2, gemma3, llama, lora, phi3, qwen3 } from "../../plugins/index.ts";
import { openCheckpoint } from "../../core/formats/checkpoint.ts";
import { benchSource } from "../../sdk/bench-source.ts";
import { SHAPE_NAMES, type ShapeName, syntheticConfigJson } from "../../sdk/shapes.ts";
import { syntheticFolder, syntheticSource } from "../../sdk/synthetic-checkpoint.ts";
import { temporaryFolder } from "../support/run.ts";

/**
 * SigLIP's vision tower in Gemma-3 (27 layers of 1152 with an MLP of 4304, patches of 14 in 896 x 896 pixels) and the
 * projector to the text model: what a published total has beyond the text part.
 */
const vision = (hidden: number): number => 416_866_032 + 1152 * hidden + 1152;

/** Parameters as the models' pages on the hub count them; `untied`: a head of the language model of its own is among them. */
const PUBLISHED: Readonly<Record<ShapeName, { readonly total: number; readonly untied?: boolean }>> = {
  "gemma2-2b": { total: 2_614_341_888 },
  "gemma2-9b": { total: 9_241_705_984 },
  "gemma2-27b": { total: 27_227_128_320 },
  "gemma3-270m": { total: 268_098_176 },
  "gemma3-1b": { total: 999_885_952 },
  "gemma3-4b": { total: 4_300_079_472 - vision(2560) },
  "gemma3-12b": { total: 12_187_325_040 - vision(3840) },
  "gemma3-27b": { total: 27_432_406_640 - vision(5376) },
  "llama3-1b": { total: 1_235_814_400 },
  "llama3-3b": { total: 3_212_749_824 },
  "llama3-8b": { total: 8_030_261_248, untied: true },
  "llama3-70b": { total: 70_553_706_496, untied: true },
  "llama3-405b": { total: 405_853_388_800, untied: true },
  "mistral-7b": { total: 7_248_023_552, untied: true },
  "mistral-nemo-12b": { total: 12_247_782_400, untied: true },
  "mistral-small-24b": { total: 23_572_403_200, untied: true },
  "phi3-mini": { total: 3_821_079_552, untied: true },
  "phi3-medium": { total: 13_960_238_080, untied: true },
  "phi4-mini": { total: 3_836_021_760 },
  "phi4-14b": { total: 14_659_507_200, untied: true },
  "qwen2.5-0.5b": { total: 494_032_768 },
  "qwen2.5-1.5b": { total: 1_543_714_304 },
  "qwen2.5-3b": { total: 3_085_938_688 },
  "qwen2.5-7b": { total: 7_615_616_512, untied: true },
  "qwen2.5-14b": { total: 14_770_033_664, untied: true },
  "qwen2.5-32b": { total: 32_763_876_352, untied: true },
  "qwen2.5-72b": { total: 72_706_203_648, untied: true },
  // The files of 0.6B and 1.7B hold the tied head once more.
  "qwen3-0.6b": { total: 751_632_384, untied: true },
  "qwen3-1.7b": { total: 2_031_739_904, untied: true },
  "qwen3-4b": { total: 4_022_468_096 },
  "qwen3-8b": { total: 8_190_735_360, untied: true },
  "qwen3-14b": { total: 14_768_307_200, untied: true },
  "qwen3-32b": { total: 32_762_123_264, untied: true },
};

const MODELS = [gemma2, gemma3, llama, phi3, qwen3];
const sizesOf = (shape: ShapeName): { readonly vocab: number; readonly hidden: number; readonly layers: number } => {
  const json = syntheticConfigJson(shape) as Record<string, number>;
  return { vocab: json["vocab_size"]!, hidden: json["hidden_size"]!, layers: json["num_hidden_layers"]! };
};

/** A config whose checkpoint is a folder with config.json alone. */
async function configOf(shape: ShapeName, folder: string) {
  const json = syntheticConfigJson(shape);
  await writeFile(join(folder, "config.json"), JSON.stringify(json));
  const model = MODELS.find(({ modelTypes }) => modelTypes.includes(String(json["model_type"])))!;
  return defineConfig({
    model: model({ checkpoint: folder }),
    adapter: lora({ rank: 8, targetModules: "all-linear" }),
    optimizer: adamW8bit(),
    device: { memoryBudget: "640GiB" },
  });
}

test("every shape has its published count", () =>
  expect(Object.keys(PUBLISHED).toSorted()).toEqual([...SHAPE_NAMES].toSorted()));

describe("inspect counts what was published", () => {
  test.each([...SHAPE_NAMES])("%s", async (shape) => {
    await using folder = await temporaryFolder();
    const { parameters } = await inspect(await configOf(shape, folder.path));
    const { vocab, hidden } = sizesOf(shape);
    const { total, untied = false } = PUBLISHED[shape];
    const frozen = parameters.filter(({ trainable }) => !trainable);
    const count = frozen.reduce((sum, row) => sum + elementCount(row.shape), 0);
    // A score of three classes stands where the language model's head was.
    expect(count).toBe(total - (untied ? vocab * hidden : 0) + 3 * hidden);
  });
});

/** Of each family the smallest and the largest, and the sizes that people have cards for. */
const PLANNED: readonly ShapeName[] = [
  "gemma3-270m",
  "gemma3-27b",
  "llama3-1b",
  "mistral-7b",
  "phi4-mini",
  "phi4-14b",
  "qwen2.5-72b",
  "qwen3-0.6b",
  "qwen3-32b",
];

describe("plan counts the weights' bytes", () => {
  test.each([...PLANNED])(
    "%s",
    async (shape) => {
      await using folder = await temporaryFolder();
      const config = await configOf(shape, folder.path);
      const { linears } = await benchSource({ shape }).outline(3);
      const report = await plan(config, { on: "nvidia" });
      expect(report.blocks).toBe(sizesOf(shape).layers);
      const { vocab, hidden } = sizesOf(shape);
      const elements = linears.reduce((sum, { outFeatures, inFeatures }) => sum + outFeatures * inFeatures, 0);
      const fast = report.modes.find(({ mode }) => mode === "lean")!;
      const weights = "plan" in fast ? fast.plan.figures.atRest.weights : 0;
      // Half a byte each, a byte of absmax for 64, f32 for 64 * 256; the token table in lean mode lies on the host.
      const packed = elements * (1 / 2 + 1 / 64 + 4 / (64 * 256));
      expect(weights / packed).toBeGreaterThan(1);
      expect((weights - 2 * vocab * hidden) / packed).toBeLessThan(1.02);
    },
    60_000,
  );
});

test("a synthetic folder's file is the tensors, whatever pieces it is read in", async () => {
  const shape = "qwen3-0.6b";
  const json = syntheticConfigJson(shape, { layers: 1 });
  const outline = await benchSource({ shape, layers: 1 }).outline(1);
  const rows = outline.baseParameters.filter(({ name }) => !name.includes("embed") && !name.includes("mlp"));
  const source = syntheticSource(rows, { seed: 1, normOffset: 0 });
  await using checkpoint = await openCheckpoint(syntheticFolder("synthetic", json, async () => source));
  expect([...checkpoint.tensors.keys()]).toEqual([...source.tensors.keys()]);
  for (const name of source.tensors.keys()) {
    const want = await source.read(name);
    expect(Buffer.compare(await checkpoint.read(name), want), name).toBe(0);
    const pieces: Uint8Array[] = [];
    for await (const piece of checkpoint.stream(name, 999_983)) pieces.push(piece);
    expect(Buffer.compare(Buffer.concat(pieces), want), name).toBe(0);
  }
});
