/** The folder of a run: whose it is, what of an earlier run stays in it, and what an early end leaves. */
import { describe, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { createRunFolder, holdRunFolder } from "../../core/run/folder.ts";
import { readTrainingState } from "../../core/training/training-state.ts";
import { crossValidate, train, trainer } from "../../index.ts";
import { failure } from "../support/failure.ts";
import { tiers } from "../support/gpu.ts";
import { smallRun, temporaryFolder } from "../support/run.ts";

test("an adapter of the run before does not outlive --overwrite-output-dir", async () => {
  await using folder = await temporaryFolder();
  const names = ["run.json", "adapter_config.json", "adapter_model.safetensors", "notes.txt"];
  for (const name of names) await writeFile(join(folder.path, name), "{}");
  await createRunFolder(folder.path, true);
  expect(await readdir(folder.path)).toEqual(["notes.txt"]);
});

test("a folder that cannot be made is one sentence", async () => {
  await using folder = await temporaryFolder();
  const file = join(folder.path, "file");
  await writeFile(file, "");
  const run = join(file, "run");
  for (const made of [holdRunFolder(run), createRunFolder(run, false)])
    expect(await failure(made)).toStartWith(`QloraError: ${run}: could not be written (ENOTDIR`);
});

test("a folder is held by one run at a time", async () => {
  await using folder = await temporaryFolder();
  const run = join(folder.path, "run");
  const held = await holdRunFolder(run);
  expect(await failure(holdRunFolder(run))).toBe(`ConfigError: outputDir: another run is writing ${run} now`);
  await held[Symbol.asyncDispose]();
  expect(await readdir(run)).toEqual([]);
  await (await holdRunFolder(run))[Symbol.asyncDispose]();
});

test("a checkpoint's state or a cross-validation's record that is cut off is one sentence", async () => {
  await using folder = await temporaryFolder();
  for (const [text, problem] of [
    ['{"version": 1, "st', "is not valid JSON"],
    ["null", "is not a JSON object"],
  ] as const) {
    for (const name of ["training_state.json", "cv.json"]) await writeFile(join(folder.path, name), text);
    const state = join(folder.path, "training_state.json");
    expect(await failure(readTrainingState(folder.path))).toStartWith(`QloraError: ${state}: ${problem}`);
    const config = await smallRun(folder.path, { training: { outputDir: folder.path } });
    const record = join(folder.path, "cv.json");
    expect(await failure(crossValidate(config, 2))).toStartWith(`QloraError: ${record}: ${problem}`);
  }
});

describe.skipIf(tiers.length === 0)("with a GPU", () => {
  test("a second run into the folder is refused before it removes anything", async () => {
    await using folder = await temporaryFolder();
    const config = await smallRun(folder.path);
    const second = await smallRun(folder.path, { training: { overwriteOutputDir: true } });
    const { outputDir } = config.training;
    const steps = trainer(config);
    await steps.next();
    expect(await failure(train(second))).toContain(`another run is writing ${outputDir} now`);
    expect(existsSync(join(outputDir, "run.json"))).toBe(true);
    await steps.return(undefined as never);
    expect(existsSync(join(outputDir, ".lock"))).toBe(false);
  }, 240_000);

  test("a run interrupted before its first step goes on from checkpoint-0 to the same bytes", async () => {
    await using folder = await temporaryFolder();
    const whole = join(folder.path, "whole");
    await train(await smallRun(folder.path, { training: { outputDir: whole } }));
    const stopped = await train(await smallRun(folder.path), { signal: AbortSignal.abort() });
    expect(stopped).toMatchObject({ interrupted: true, steps: 0 });
    await train(await smallRun(folder.path, { training: { resumeFromCheckpoint: true } }));
    const adapter = (run: string): Promise<Buffer> => readFile(join(run, "adapter_model.safetensors"));
    expect((await adapter(stopped.outputDir)).equals(await adapter(whole))).toBe(true);
  }, 240_000);
});
