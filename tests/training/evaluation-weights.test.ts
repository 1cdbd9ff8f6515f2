/** A run whose optimizer gives other values for evaluation: eval, the adapter and the best model take those; resuming goes on from the others. */
import { describe, expect, test } from "bun:test";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { evaluate, train, trainer } from "../../index.ts";
import { adamW, ema, scheduleFreeAdamW } from "../../plugins/index.ts";
import { openSafetensors } from "../../runtime/files/folder.ts";
import { expectNear } from "../support/close.ts";
import { tiers } from "../support/gpu.ts";
import { smallRun, temporaryFolder } from "../support/run.ts";

const tier = tiers[0];
const adapterBytes = (run: string): Promise<Buffer> => readFile(join(run, "adapter_model.safetensors"));

async function adapterOf(run: string): Promise<ReadonlyMap<string, Float32Array>> {
  await using file = await openSafetensors(join(run, "adapter_model.safetensors"));
  const values = new Map<string, Float32Array>();
  for (const name of file.tensors.keys()) values.set(name, new Float32Array((await file.read(name)).slice().buffer));
  return values;
}

describe.skipIf(tier === undefined)("an optimizer with values for evaluation", () => {
  const device = { tier: tier! };

  test("ema: the adapter is the average of what adamw trains, and eval saw it", async () => {
    await using folder = await temporaryFolder();
    const training = { outputDir: join(folder.path, "ema"), maxSteps: 4, evalStrategy: "steps", evalSteps: 4 } as const;
    const run = trainer(await smallRun(folder.path, { device, training, optimizer: ema(adamW(), { decay: 0.5 }) }));
    const averages = new Map<string, Float64Array>();
    let last = new Map<string, Float32Array>();
    let end = await run.next();
    for (; end.done !== true; end = await run.next()) {
      last = await end.value.session.parameters.readValues();
      for (const [name, value] of last) {
        const before = averages.get(name);
        averages.set(
          name,
          Float64Array.from(value, (x, i) => (before === undefined ? x : 0.5 * before[i]! + 0.5 * x)),
        );
      }
    }
    const saved = await adapterOf(training.outputDir);
    for (const [name, value] of averages) expectNear(saved.get(name)!, value, 1e-6, name);
    expect([...averages.keys()].some((name) => saved.get(name)!.some((x, i) => x !== last.get(name)![i]))).toBe(true);
    const [seen, again] = [end.value.metrics, (await evaluate({ run: training.outputDir, device })).metrics];
    expect(again["eval_log_loss"]).toBeCloseTo(seen["eval_log_loss"]!, 6);

    const plain = { ...training, outputDir: join(folder.path, "plain") };
    await train(await smallRun(folder.path, { device, training: plain, optimizer: adamW() }));
    // What is trained is the same, bit for bit: evaluation in between changed nothing.
    const bare = await adapterOf(plain.outputDir);
    for (const [name, value] of last) expect(bare.get(name)).toEqual(value);
  }, 300_000);

  test.each([ema(adamW(), { decay: 0.5 }), scheduleFreeAdamW()])(
    "$name: k of n steps and the rest give the bytes of the uninterrupted run",
    async (optimizer) => {
      await using folder = await temporaryFolder();
      const of = async (name: string, more: object = {}) =>
        smallRun(folder.path, {
          device,
          optimizer,
          training: {
            outputDir: join(folder.path, name),
            maxSteps: 4,
            lrSchedulerType: "constant_with_warmup",
            warmupSteps: 2,
            evalStrategy: "steps",
            evalSteps: 1,
            ...more,
          },
        });
      const straight = await train(await of("straight"));
      const stop = new AbortController();
      for await (const { step } of trainer(await of("halted"), { signal: stop.signal })) if (step === 2) stop.abort();
      const resumed = await train(await of("halted", { resumeFromCheckpoint: true }));
      expect(resumed.steps).toBe(4);
      expect((await adapterBytes(resumed.outputDir)).equals(await adapterBytes(straight.outputDir))).toBe(true);
      const state = await openSafetensors(join(resumed.outputDir, "checkpoint-4", "optimizer.safetensors"));
      expect([...state.tensors.keys()]).toContain("training_values/base_model.model.score.weight");
      await state.close();
    },
    300_000,
  );

  test("loadBestModelAtEnd gives the checkpoint's own values, not the last averages", async () => {
    await using folder = await temporaryFolder();
    const training = {
      outputDir: join(folder.path, "best"),
      maxSteps: 3,
      learningRate: 5, // every step makes it worse
      evalStrategy: "steps",
      evalSteps: 1,
      saveStrategy: "steps",
      saveSteps: 1,
      loadBestModelAtEnd: true,
      metricForBestModel: "log_loss",
      greaterIsBetter: false,
    } as const;
    const run = await train(await smallRun(folder.path, { device, training, optimizer: ema(adamW(), { decay: 0.5 }) }));
    const losses = run.history.flatMap((entry) =>
      entry["eval_log_loss"] === undefined ? [] : [entry["eval_log_loss"]],
    );
    const best = 1 + losses.indexOf(Math.min(...losses));
    expect(best).toBeLessThan(3);
    const bytes = await adapterBytes(join(training.outputDir, `checkpoint-${best}`));
    expect((await adapterBytes(training.outputDir)).equals(bytes)).toBe(true);
  }, 300_000);
});
