import { describe, expect, test } from "bun:test";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { train, trainer } from "../../index.ts";
import { adamW, tensorboard } from "../../plugins/index.ts";
import { tiers } from "../support/gpu.ts";
import { smallRun, temporaryFolder } from "../support/run.ts";
import { readEventFile, shownPoints } from "../support/tfevents.ts";

const adapterBytes = (run: string): Promise<Buffer> => readFile(join(run, "adapter_model.safetensors"));

for (const tier of tiers) {
  describe(`resume, tier ${tier}`, () => {
    test("k of n steps and the rest give the bytes of the uninterrupted run", async () => {
      await using folder = await temporaryFolder();
      const device = { tier };
      const straight = await train(
        await smallRun(folder.path, { device, training: { outputDir: join(folder.path, "straight") } }),
      );
      expect(straight.steps).toBe(6);

      const outputDir = join(folder.path, "halted");
      const halted = { outputDir };
      const reportTo = [tensorboard()];
      const stop = new AbortController();
      const steps = trainer(await smallRun(folder.path, { device, training: halted, reportTo }), {
        signal: stop.signal,
      });
      for await (const step of steps) if (step.step === 3) stop.abort();
      expect((await readdir(outputDir)).filter((name) => name.startsWith("checkpoint-"))).toEqual(["checkpoint-3"]);

      const resumed = await train(
        await smallRun(folder.path, { device, reportTo, training: { ...halted, resumeFromCheckpoint: true } }),
      );
      expect(resumed.steps).toBe(6);
      expect((await adapterBytes(outputDir)).equals(await adapterBytes(straight.outputDir))).toBe(true);
      const losses = (history: typeof straight.history): unknown =>
        history.flatMap((e) =>
          e["loss"] === undefined ? [] : [[e.step, e["loss"], e["grad_norm"], e["learning_rate"]]],
        );
      expect(losses(resumed.history)).toEqual(losses(straight.history));

      const runs = join(outputDir, "runs");
      const names = (await readdir(runs)).sort();
      const points = shownPoints(
        await Promise.all(names.map(async (n) => readEventFile(await readFile(join(runs, n))))),
      );
      expect(names).toHaveLength(2);
      expect(points.flatMap(({ tag, step, value }) => (tag === "train/loss" ? [[step, value]] : []))).toEqual(
        straight.history.flatMap((e) => (e["loss"] === undefined ? [] : [[e.step, Math.fround(e["loss"])]])),
      );
    }, 120_000);
  });
}

describe.skipIf(tiers.length === 0)("resuming another run", () => {
  test("is refused, naming every difference", async () => {
    await using folder = await temporaryFolder();
    await train(await smallRun(folder.path, { device: { tier: "f32" }, training: { maxSteps: 1 } }));
    const again = smallRun(folder.path, {
      optimizer: adamW(),
      device: { tier: "f32" },
      data: { maxLength: 48 },
      training: { maxSteps: 2, seed: 43, resumeFromCheckpoint: true },
    });
    const refused = train(await again).catch((error: unknown) => error as Error);
    const { message } = (await refused) as Error;
    expect(message).toContain("data: the training rows, tokenizer or truncation differ");
    expect(message).toContain("seed: ");
    expect(message).toContain("optimizer: ");
  }, 120_000);

  test("an output folder that holds a run is not overwritten unasked", async () => {
    await using folder = await temporaryFolder();
    const training = { maxSteps: 1 };
    await train(await smallRun(folder.path, { device: { tier: "f32" }, training }));
    const again = await train(await smallRun(folder.path, { device: { tier: "f32" }, training })).catch(
      (e: unknown) => e,
    );
    expect(String(again)).toContain("already holds a run");
    const replaced = await train(
      await smallRun(folder.path, { device: { tier: "f32" }, training: { ...training, overwriteOutputDir: true } }),
    );
    expect(replaced.steps).toBe(1);
  }, 120_000);
});
