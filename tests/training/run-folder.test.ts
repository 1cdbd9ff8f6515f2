/** The folder of a run: whose it is, what of an earlier run stays in it, and what an early end leaves. */
import { describe, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { crossValidate, train, trainer } from "../../index.ts";
import { createRunFolder, lockRunFolder } from "../../runtime/folder/folder.ts";
import { readTrainingState } from "../../runtime/folder/training-state.ts";
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
  // One after the other: the second would be refused before anybody waits for it.
  for (const make of [() => lockRunFolder(run), () => createRunFolder(run, false)])
    expect(await failure(make())).toStartWith(`QloraError: ${run}: could not be written (ENOTDIR`);
});

test("a folder is held by one run at a time", async () => {
  await using folder = await temporaryFolder();
  const run = join(folder.path, "run");
  const held = await lockRunFolder(run);
  expect(await failure(lockRunFolder(run))).toBe(`ConfigError: outputDir: another run is writing ${run} now`);
  const { ino } = await stat(join(run, ".lock"));
  await held[Symbol.asyncDispose]();
  await (await lockRunFolder(run))[Symbol.asyncDispose]();
  // Who opened the file while another held it waits for that very file: it must stay.
  expect((await stat(join(run, ".lock"))).ino).toBe(ino);
});

test("three processes that take a folder in turn never hold it together", async () => {
  await using folder = await temporaryFolder();
  const fixture = join(import.meta.dir, "../runs/fixtures/hold.ts");
  const children = [1, 2, 3].map(() =>
    Bun.spawn([process.execPath, fixture, folder.path, "300"], { stdout: "pipe", stderr: "inherit" }),
  );
  const seen = await Promise.all(
    children.map(async ({ stdout }) => JSON.parse(await new Response(stdout).text()) as Record<string, number>),
  );
  expect(seen.map(({ held, together }) => [held, together])).toEqual([
    [300, 0],
    [300, 0],
    [300, 0],
  ]);
}, 60_000);

test("a lock file that somebody removed or replaced is not taken for the folder's", async () => {
  await using folder = await temporaryFolder();
  const path = join(folder.path, ".lock");
  await using _ = await lockRunFolder(folder.path);
  await rm(path);
  // Its holder is not seen any more; whoever comes next locks what lies there, and everybody after it sees that.
  await using __ = await lockRunFolder(folder.path);
  expect(await failure(lockRunFolder(folder.path))).toContain("another run is writing");
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
    await (await lockRunFolder(outputDir))[Symbol.asyncDispose]();
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
