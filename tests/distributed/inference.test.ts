/** Evaluation, prediction and cross-validation on ranks: what one process gives, to the byte. */
import { describe, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { demoCsv } from "../../demo/generate.ts";
import { predict as predictRows, type RunEvent, writeFileAtomic } from "../../index.ts";
import { tiers } from "../support/gpu.ts";
import { hasMpi, qloraProgram, runRanks, start } from "../support/ranks.ts";
import { tinyCheckpoint } from "../support/reference.ts";
import { temporaryFolder } from "../support/run.ts";

const alone = async (...argv: readonly string[]): Promise<string> => {
  const { code, stdout, stderr } = await start([process.execPath, ...qloraProgram(...argv)]).ended;
  expect(code, stderr).toBe(0);
  return stdout;
};
const onTwo = async (...argv: readonly string[]): Promise<string> => {
  const { code, stdout, stderr } = await runRanks(2, qloraProgram(...argv));
  expect(code, stderr).toBe(0);
  return stdout;
};

describe.skipIf(!hasMpi || !tiers.includes("f32"))("inference on ranks", () => {
  test("predict and eval give what one process gives; a partial file goes on", async () => {
    await using folder = await temporaryFolder();
    const at = (name: string): string => join(folder.path, name);
    await writeFileAtomic(at("arena.csv"), demoCsv(40, 7));
    const cache = ["--cache-dir", at("cache")];
    const data = ["--max-length", "48", "--tier", "f32", ...cache];
    const adapter = ["--adapter.rank", "4", "--adapter.layers-to-transform", "3", "--model.checkpoint", tinyCheckpoint];
    await alone(
      "train",
      "--train-files",
      at("arena.csv"),
      "--output-dir",
      at("run"),
      ...data,
      ...adapter,
      "--max-steps",
      "2",
    );
    const predict = [
      "predict",
      at("run"),
      at("arena.csv"),
      "--per-device-eval-batch-size",
      "2",
      "--tier",
      "f32",
      ...cache,
    ];
    await alone(...predict, "--output", at("one.csv"));
    await onTwo(...predict, "--output", at("two.csv"));
    const one = await readFile(at("one.csv"), "utf8");
    expect(one.split("\n")).toHaveLength(42);
    expect(await readFile(at("two.csv"), "utf8")).toBe(one);

    // One process stops after some batches; two ranks go on from what it has kept, on rank 0 alone.
    const stop = new AbortController();
    const onEvent = (event: RunEvent): void => {
      if (event.type === "progress" && event.what === "predicting") stop.abort();
    };
    const files = [at("arena.csv")];
    const device = { tier: "f32" } as const;
    const request = { run: at("run"), files, device, perDeviceEvalBatchSize: 2, data: { cacheDir: at("cache") } };
    const stopped = await predictRows(
      { ...request, partialFile: at("three.csv.partial") },
      { onEvent, signal: stop.signal },
    )
      .then(() => "not stopped")
      .catch((error: Error) => error.message);
    expect(stopped).toStartWith("interrupted after ");
    const { code, stderr } = await runRanks(2, qloraProgram(...predict, "--output", at("three.csv"), "--resume"));
    expect(code, stderr).toBe(0);
    expect(stderr).toMatch(/three\.csv\.partial: going on after [1-9]\d* of 40 rows/);
    expect(await readFile(at("three.csv"), "utf8")).toBe(one);
    expect(existsSync(at("three.csv.partial"))).toBe(false);

    const evaluate = ["eval", at("run"), at("arena.csv"), "--json", "--tier", "f32", ...cache];
    expect(await onTwo(...evaluate)).toBe(await alone(...evaluate));
  }, 180_000);

  test("cv gives each rank folds of its own, and the same out-of-fold predictions", async () => {
    await using folder = await temporaryFolder();
    const at = (name: string): string => join(folder.path, name);
    await writeFileAtomic(at("arena.csv"), demoCsv(32, 7));
    const flags =
      "--folds 2 --adapter.rank 4 --adapter.layers-to-transform 3 --max-length 32 --tier f32 --max-steps 2 --save-strategy no";
    const cv = [
      "cv",
      ...flags.split(" "),
      "--model.checkpoint",
      tinyCheckpoint,
      "--train-files",
      at("arena.csv"),
      "--cache-dir",
      at("cache"),
    ];
    const [one, two] = [await alone(...cv, "--output-dir", at("one")), await onTwo(...cv, "--output-dir", at("two"))];
    expect(two).toBe(one);
    expect(await readFile(at("two/out-of-fold.csv"), "utf8")).toBe(await readFile(at("one/out-of-fold.csv"), "utf8"));
    // Finished folds are kept.
    const again = await start([process.execPath, ...qloraProgram(...cv, "--output-dir", at("two"), "--gpus", "2")])
      .ended;
    expect(again.code, again.stderr).toBe(0);
    expect(again.stderr).toContain("it is done already");
    expect(again.stdout).toBe(one);
  }, 180_000);
});
