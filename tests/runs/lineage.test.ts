/** A run that goes back to an earlier checkpoint: what it goes on from, what it keeps, what is taken of it. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { cp, mkdir, mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { predict, train, trainer } from "../../index.ts";
import { newestCheckpoint } from "../../runtime/folder/checkpoints.ts";
import { findAdapter } from "../../runtime/folder/find-adapter.ts";
import { isOnLine } from "../../runtime/folder/lineage.ts";
import { writeManifest } from "../../runtime/folder/manifest.ts";
import { tiers } from "../support/gpu.ts";
import { smallRun } from "../support/run.ts";

test("a state lies on the living line up to where the run left its own", () => {
  const [a, b, c] = [
    { line: "a", from: 0 },
    { line: "b", from: 3 },
    { line: "c", from: 6 },
  ];
  const at = (step: number, ...lineage: { line: string; from: number }[]): boolean =>
    isOnLine({ step, lineage }, [a, b, c]);
  expect([at(2, a), at(3, a), at(4, a), at(8, a)]).toEqual([true, true, false, false]);
  expect([at(6, a, b), at(7, a, b), at(9, a, b, c)]).toEqual([true, false, true]);
  expect([at(4, b), at(4, a, c), at(9, a, b, c, { line: "d", from: 7 })]).toEqual([false, false, false]);
});

test("without a checkpoint on the living line the newest of another is not taken", async () => {
  const folder = await mkdtemp(join(tmpdir(), "qlora-lineage-"));
  const lines = [{ line: "a", from: 0 }];
  for (const step of [3, 8]) {
    const checkpoint = join(folder, `checkpoint-${step}`);
    await mkdir(checkpoint);
    await writeManifest(checkpoint, { step, lineage: lines });
  }
  const newest = async (recorded?: typeof lines): Promise<string> =>
    newestCheckpoint(folder, recorded).then(
      ({ newest: { step } }) => String(step),
      (error: Error) => error.message,
    );
  expect(await newest([...lines, { line: "b", from: 3 }])).toBe("3");
  expect(await newest([...lines, { line: "b", from: 2 }])).toBe(
    `resumeFromCheckpoint: ${folder} holds no checkpoint of the line that run.json says it is on`,
  );
  expect(await newest()).toBe("8"); // run.json is lost: the line of the last start among them
  await rm(join(folder, "checkpoint-8", "manifest.json"));
  expect(await newest(lines)).toContain("checkpoint-8: has no manifest.json, which is written last");
  await rm(folder, { recursive: true });
});

describe.skipIf(tiers.length === 0)("train to 8, back to 3, stop at 6", () => {
  let root = "";
  let outputDir = "";
  let messages: string[] = [];

  const run = (training: object) =>
    smallRun(root, {
      device: { tier: "f32" },
      training: { outputDir, loggingSteps: 1, saveStrategy: "steps", saveSteps: 1, maxSteps: 8, ...training },
    });
  /** Trains, and stops after a step. */
  async function until(stop: number, training: object): Promise<void> {
    const signal = new AbortController();
    messages = [];
    const onEvent = (event: { type: string; message?: string }): void => void messages.push(event.message ?? "");
    const steps = trainer(await run(training), { signal: signal.signal, onEvent });
    for await (const { step } of steps) if (step >= stop) signal.abort();
  }
  const checkpoints = async (): Promise<number[]> =>
    (await readdir(outputDir))
      .flatMap((name) => /^checkpoint-(\d+)$/.exec(name)?.[1] ?? [])
      .map(Number)
      .sort((x, y) => x - y);
  const steps = async (): Promise<number[]> =>
    (await readFile(join(outputDir, "metrics.jsonl"), "utf8"))
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line) as Record<string, number>)
      .flatMap((entry) => (entry["loss"] === undefined ? [] : [entry["step"]!]));

  beforeAll(async () => {
    root = await mkdtemp(join(tmpdir(), "qlora-lineage-"));
    outputDir = join(root, "run");
    await train(await run({}));
    await until(6, { resumeFromCheckpoint: join(outputDir, "checkpoint-3") });
  }, 240_000);
  afterAll(() => rm(root, { recursive: true, force: true }));

  test("metrics.jsonl tells one history", async () => {
    expect(await steps()).toEqual([1, 2, 3, 4, 5, 6]);
  });

  test("predict takes checkpoint-6, and not the adapter of step 8, and says so", async () => {
    const adapter = await findAdapter(outputDir);
    expect(adapter.directory).toBe(join(outputDir, "checkpoint-6"));
    expect(adapter.notes).toEqual([
      `${outputDir}: its own adapter is that of step 8, and the run went back to step 3 after it; taken is the newest state, ${outputDir}/checkpoint-6`,
      "checkpoint-7, checkpoint-8: left aside, for the run went back to step 3 after them",
    ]);
    const said: string[] = [];
    const onEvent = (event: { type: string; message?: string }): void => void said.push(event.message ?? "");
    const files = [join(root, "arena.csv")];
    const [ofRun, ofCheckpoint] = [
      await predict({ run: outputDir, files, device: { tier: "f32" } }, { onEvent }),
      await predict({ run: join(outputDir, "checkpoint-6"), files, device: { tier: "f32" } }),
    ];
    expect(ofRun.rows).toEqual(ofCheckpoint.rows);
    expect(said).toContain(adapter.notes[0]!);
  }, 120_000);

  test("the bare --resume-from-checkpoint goes on from 6; the limit counts the living line alone", async () => {
    const copy = `${outputDir}-copy`;
    await cp(outputDir, copy, { recursive: true });
    await until(7, { resumeFromCheckpoint: true, saveTotalLimit: 2, maxSteps: 9 });
    expect(messages).toContain("checkpoint-7, checkpoint-8: left aside, for the run went back to step 3 after them");
    expect(await steps()).toEqual([1, 2, 3, 4, 5, 6, 7]);
    // 7 is the new one in the place of the old; 8 is the line that was left, neither counted nor removed.
    expect(await checkpoints()).toEqual([6, 7, 8]);
    await rm(outputDir, { recursive: true });
    await cp(copy, outputDir, { recursive: true });
  }, 120_000);

  test("to the end: the adapter is that of the last step, and predict takes it without a word", async () => {
    const { steps: done } = await train(await run({ resumeFromCheckpoint: true, maxSteps: 9 }));
    expect(done).toBe(9);
    expect(await steps()).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9]);
    expect(await findAdapter(outputDir)).toMatchObject({ directory: outputDir, notes: [] });
    // A longer run of the same line: the newest state is a checkpoint's.
    await until(10, { resumeFromCheckpoint: true, maxSteps: 12 });
    const longer = await findAdapter(outputDir);
    expect(longer.directory).toBe(join(outputDir, "checkpoint-10"));
    expect(longer.notes[0]).toContain("its own adapter is that of step 9, and the run went on after it");
  }, 120_000);
});
