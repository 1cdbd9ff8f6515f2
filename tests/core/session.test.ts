/** Sessions on a GPU that stays open: what fails while it loads gives back what it took. */
import { describe, expect, test } from "bun:test";
import { cp, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { NVIDIA, metaGpu } from "../../core/device/meta.ts";
import type { AdapterPlugin } from "../../core/plugin/adapter.ts";
import type { ModelLoader } from "../../core/plugin/model.ts";
import { gemma2, lora } from "../../plugins/index.ts";
import { fileHost } from "../../runtime/files/folder.ts";
import { openSessionOn } from "../../runtime/session/session.ts";
import { benchOptions } from "../../sdk/bench-options.ts";
import { benchSource } from "../../sdk/bench-source.ts";
import { gpuOf, tiers } from "../support/gpu.ts";
import { tinyCheckpoint } from "../support/reference.ts";

const adapter = lora({ rank: 4, targetModules: "all-linear" });
const paper = benchSource(benchOptions.parse({ shape: "gemma2-2b", layers: 2 }, "bench"));

/** Bytes held before and after a session that fails to open, the most held meanwhile, and why it failed. */
async function failing(source: ModelLoader, plugin: AdapterPlugin = adapter, gpu = metaGpu(NVIDIA)) {
  gpu.memory.resetPeak();
  const before = gpu.memory.report().used;
  const error: unknown = await openSessionOn(gpu, { source, adapter: plugin, numLabels: 3, seed: 1 }).then(
    (session) => session[Symbol.dispose](),
    (thrown: unknown) => thrown,
  );
  const { used, byPurposeAtPeak } = gpu.memory.report();
  const most = Object.values(byPurposeAtPeak).reduce((sum, bytes) => sum + bytes);
  return { error: String(error), held: used - before, took: most - before };
}

describe("a session that fails to open holds no GPU memory", () => {
  test("an adapter that fails after it has taken some", async () => {
    const plugin: AdapterPlugin = {
      ...adapter,
      async create(context) {
        const made = await adapter.create(context);
        return {
          ...made,
          initialize(gpu) {
            gpu.alloc([1 << 20], "f32", "norms");
          },
          adapt() {
            throw new Error("no such linear");
          },
        };
      },
    };
    expect(await failing(paper, plugin)).toMatchObject({ error: "Error: no such linear", held: 0 });
  });

  test("an adapter whose parameters are named twice", async () => {
    const plugin: AdapterPlugin = {
      ...adapter,
      async create(context) {
        const made = await adapter.create(context);
        return { ...made, parameters: [...made.parameters, made.parameters[0]!] };
      },
    };
    const { error, held, took } = await failing(paper, plugin);
    expect(error).toContain("the same name");
    expect(held).toBe(0);
    expect(took).toBeGreaterThan(100 * 2 ** 20); // two blocks of weights
  });

  test("but not what was made meanwhile on the same GPU, in a buffer that the failed load had used too", async () => {
    const gpu = metaGpu(NVIDIA);
    let half = (): void => {};
    const halfway = new Promise<void>((resolve) => (half = resolve));
    let goOn = (): void => {};
    const other = new Promise<void>((resolve) => (goOn = resolve));
    const source: ModelLoader = {
      ...paper,
      async load({ gpu: device }) {
        device.alloc([1 << 20], "f32", "weights");
        device.free(device.alloc([512], "f32", "scratch"));
        half();
        await other;
        device.alloc([1 << 20], "f32", "more weights");
        throw new Error("half-way");
      },
    };
    const failed = failing(source, adapter, gpu);
    await halfway;
    const mine = gpu.alloc([512], "f32", "mine");
    goOn();
    const { error, took } = await failed;
    expect(error).toBe("Error: half-way");
    expect(took).toBeGreaterThanOrEqual(8 * 2 ** 20);
    expect(gpu.memory.report().used).toBe(2048);
    gpu.free(mine); // would throw for a buffer that is not live
  });
});

test.skipIf(tiers.length === 0)(
  "a checkpoint that lacks its last norm: all loaded before it is given back",
  async () => {
    const gpu = await gpuOf("f32");
    const folder = await mkdtemp(join(tmpdir(), "qlora-half-"));
    try {
      await cp(tinyCheckpoint, folder, { recursive: true });
      const path = join(folder, "model.safetensors");
      const bytes = await readFile(path);
      bytes.write('"model.norm.weighs":', bytes.indexOf('"model.norm.weight":'));
      await writeFile(path, bytes);
      const { error, held, took } = await failing(gemma2({ checkpoint: folder }).create(fileHost), adapter, gpu);
      expect(error).toContain("model.norm.weight");
      expect(held).toBe(0);
      expect(took).toBeGreaterThan(2 ** 20); // the file has 1.6 MB
    } finally {
      await rm(folder, { recursive: true });
    }
  },
);
