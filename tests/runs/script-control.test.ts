/** What a script can do with a run: make a step its last, break out of it and go on later, abort an evaluation. */
import { expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { evaluate, train, trainer } from "../../index.ts";
import type { ConfigInput } from "../../runtime/config/config.ts";
import { findAdapter } from "../../runtime/folder/find-adapter.ts";
import { failure } from "../support/failure.ts";
import { smallRun, temporaryFolder } from "../support/run.ts";

const config = (folder: string, name: string, training: ConfigInput["training"] = {}) =>
  smallRun(folder, { training: { outputDir: join(folder, name), ...training } });

const weights = (run: string): Promise<Buffer> => readFile(join(run, "adapter_model.safetensors"));

test("stop() makes a step the last one of a finished run", async () => {
  await using folder = await temporaryFolder();
  const steps = trainer(await config(folder.path, "stopped"));
  let result = await steps.next();
  while (result.done !== true) {
    if (result.value.step === 2) result.value.stop();
    result = await steps.next();
  }
  expect(result.value).toMatchObject({ steps: 2, totalSteps: 6, interrupted: false });
  const run = result.value.outputDir;
  for (const file of ["adapter_model.safetensors", "manifest.json", "report.html", "trainer_state.json"])
    expect(existsSync(join(run, file)), file).toBe(true);
  const adapter = await findAdapter(run);
  expect([adapter.directory, adapter.notes]).toEqual([run, []]); // the run's own, with nothing to be told
  // The same values as a run's that saved after two steps.
  const whole = await train(await config(folder.path, "whole", { saveStrategy: "steps", saveSteps: 2 }));
  expect((await weights(run)).equals(await weights(join(whole.outputDir, "checkpoint-2")))).toBe(true);
});

test("break saves a checkpoint, from which the run goes on to the bytes of one that never stopped", async () => {
  await using folder = await temporaryFolder();
  const halted = await config(folder.path, "halted");
  for await (const { step } of trainer(halted)) if (step === 4) break;
  const run = halted.training.outputDir;
  expect((await findAdapter(run)).directory).toBe(join(run, "checkpoint-4"));
  await train(await config(folder.path, "halted", { resumeFromCheckpoint: true }));
  const whole = await train(await config(folder.path, "whole"));
  expect((await weights(run)).equals(await weights(whole.outputDir))).toBe(true);
});

test("an error of the script's own reaches it, and what was trained is kept", async () => {
  await using folder = await temporaryFolder();
  const halted = await config(folder.path, "halted");
  const script = async (): Promise<void> => {
    for await (const { step } of trainer(halted)) if (step === 1) throw new Error("of the script");
  };
  expect(await failure(script())).toContain("of the script");
  expect(existsSync(join(halted.training.outputDir, "checkpoint-1"))).toBe(true);
});

test("an aborted evaluation ends before its next batch", async () => {
  await using folder = await temporaryFolder();
  const { outputDir } = await train(await config(folder.path, "run", { maxSteps: 1 }));
  const abort = new AbortController();
  abort.abort();
  expect(await failure(evaluate({ run: outputDir }, { signal: abort.signal }))).toContain("interrupted after 0 of");
});
