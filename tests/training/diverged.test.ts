/** A run that loses its numbers: it ends with an error, and what was sound before stays. */
import { expect, test } from "bun:test";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { exitCodeOf } from "../../cli/exit-codes.ts";
import { metaConfig, metaGpus, metaTrain } from "../support/meta-run.ts";
import { temporaryFolder } from "../support/run.ts";

/** Losses of a run, step by step; the last one stays. */
const losses = (...values: readonly number[]) => metaGpus((step) => values[Math.min(step, values.length) - 1]!);

async function diverge(folder: string, values: readonly number[], training: object = {}) {
  const config = await metaConfig(folder, { training: { maxSteps: 12, saveTotalLimit: 1, ...training } });
  const messages: string[] = [];
  const onEvent = (event: { type: string; message?: string }): void => void messages.push(event.message ?? event.type);
  const error = await metaTrain(config, { onEvent }, losses(...values)).catch((thrown: unknown) => thrown);
  const names = (await readdir(config.training.outputDir)).sort();
  const metrics = await readFile(join(config.training.outputDir, "metrics.jsonl"), "utf8");
  return {
    error: error as Error & { code?: string; hint?: string },
    names,
    messages,
    metrics: metrics.trim().split("\n"),
  };
}

const checkpoints = (names: readonly string[]): string[] => names.filter((name) => name.startsWith("checkpoint-"));

test("losses of NaN end a run with an error, and the checkpoints before them stay under the limit", async () => {
  await using folder = await temporaryFolder();
  const { error, names, metrics } = await diverge(folder.path, [1, 0.5, Number.NaN]);
  expect(error).toMatchObject({ name: "QloraError", code: "TRAINING_DIVERGED" });
  expect(error.message).toBe("training diverged: the last 5 steps, up to 7, have no finite loss or gradients");
  // The update of step 2 may be what ruined the parameters: checkpoint-1 is the last after which a step was sound.
  expect(error.hint).toStartWith(
    `Go on with --resume-from-checkpoint ${folder.path}/run/checkpoint-1, the last after which a step was sound, with a lower`,
  );
  expect(exitCodeOf(error)).toBe(1);
  expect(checkpoints(names)).toEqual(["checkpoint-1", "checkpoint-2"]);
  expect(names).not.toContain("adapter_model.safetensors");
  expect(names).toContain("report.html");
  expect(JSON.parse(metrics.at(-1)!)).toMatchObject({ step: 7, loss: null });
});

test("a loss that is no number in the last step is an error too", async () => {
  await using folder = await temporaryFolder();
  const { error, names } = await diverge(folder.path, [1, 1, Number.POSITIVE_INFINITY], { maxSteps: 3 });
  expect(error.message).toBe("training diverged: step 3 has no finite loss or gradients");
  expect(checkpoints(names)).toEqual(["checkpoint-1", "checkpoint-2"]);
});

test("a run without a sound step has no checkpoint to go on from", async () => {
  await using folder = await temporaryFolder();
  const { error, names } = await diverge(folder.path, [Number.NaN]);
  expect(error.hint).toStartWith("Start anew with a lower training.learningRate");
  expect(checkpoints(names)).toEqual([]);
});

test("a step in between is passed over: the mean is that of the others, and its checkpoint waits for the next", async () => {
  await using folder = await temporaryFolder();
  const config = await metaConfig(folder.path, { training: { maxSteps: 4, saveSteps: 2, loggingSteps: 4 } });
  const result = await metaTrain(config, {}, losses(1, Number.NaN, 2, 6));
  expect(result.trainLoss).toBe(3);
  expect(result.history.at(-1)).toMatchObject({ step: 4, train_loss: 3 });
  expect(checkpoints(await readdir(config.training.outputDir)).sort()).toEqual(["checkpoint-3", "checkpoint-4"]);
  const again = await metaConfig(folder.path, {
    training: { maxSteps: 5, resumeFromCheckpoint: join(config.training.outputDir, "checkpoint-3") },
  });
  expect((await metaTrain(again, {}, losses(3, 6))).trainLoss).toBe(3); // (1 + 2 + 3 + 6) / 4
});

test("interrupted while its losses are no numbers, a run saves nothing and says so", async () => {
  await using folder = await temporaryFolder();
  const config = await metaConfig(folder.path, { training: { maxSteps: 9 } });
  const stop = new AbortController();
  const messages: string[] = [];
  const result = await metaTrain(
    config,
    {
      signal: stop.signal,
      onEvent: (event) => {
        if (event.type === "step" && event.step === 3) stop.abort();
        if (event.type === "warning") messages.push(event.message);
      },
    },
    losses(1, 1, Number.NaN),
  );
  expect(result).toMatchObject({ interrupted: true, steps: 3 });
  expect(messages.at(-1)).toBe("step 3 is not saved: its loss or its gradients are not finite");
  expect(checkpoints(await readdir(config.training.outputDir)).sort()).toEqual(["checkpoint-1", "checkpoint-2"]);
});
