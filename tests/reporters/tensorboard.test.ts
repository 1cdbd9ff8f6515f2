import { describe, expect, test } from "bun:test";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Reporter } from "../../core/plugin/reporter.ts";
import { defineConfig } from "../../index.ts";
import { tensorboard } from "../../plugins/index.ts";
import { crc32c } from "../../plugins/tensorboard/events.ts";
import { createRunFolder } from "../../runtime/folder/folder.ts";
import type { LogEntry } from "../../runtime/folder/trainer-state.ts";
import { reporterContext } from "../../runtime/reporting/context.ts";
import { openReporting } from "../../runtime/reporting/index.ts";
import { reporterContract } from "../../testing/reporter.ts";
import { metaConfig } from "../support/meta-run.ts";
import { temporaryFolder } from "../support/run.ts";
import { crcByBits, type EventFile, readEventFile, shownPoints } from "../support/tfevents.ts";

for (const { name, run } of reporterContract(tensorboard())) test(name, run);

const filesIn = (folder: string): EventFile[] =>
  readdirSync(folder)
    .sort()
    .map((name) => readEventFile(readFileSync(join(folder, name))));

const entry = (step: number, values: Record<string, number>): LogEntry => ({ epoch: step / 10, step, ...values });

/** The reporter of a new run, writing in `folder`. */
async function started(folder: string): Promise<Reporter> {
  const { context } = reporterContext({ name: "tensorboard", folder });
  const reporter = tensorboard().create(context);
  await reporter.start({ name: "run", config: {}, firstStep: 1, before: undefined });
  return reporter;
}

describe("CRC-32C", () => {
  // Published: the catalogue of parametrized CRC algorithms, and RFC 3720 appendix B.4.
  test.each([
    ["123456789", Buffer.from("123456789"), 0xe3069283],
    ["32 bytes of 0", Buffer.alloc(32), 0x8a9136aa],
    ["32 bytes of 0xff", Buffer.alloc(32, 0xff), 0x62a8ab43],
    ["0 to 31", Buffer.from(Array.from({ length: 32 }, (_, i) => i)), 0x46dd794e],
    ["31 to 0", Buffer.from(Array.from({ length: 32 }, (_, i) => 31 - i)), 0x113fdb5c],
  ])("%s", (_, content, crc) => {
    expect(crc32c(content)).toBe(crc);
    expect(crcByBits(content)).toBe(crc);
  });
});

describe("an event file", () => {
  test("holds the log's numbers under transformers' tags, with their steps and times", async () => {
    await using folder = await temporaryFolder();
    const before = Date.now() / 1000;
    const log = await started(folder.path);
    await log.log(
      [entry(300, { loss: 0.1, grad_norm: Number.NaN, learning_rate: 1.7e-4, tokens_per_second: 7250 })],
      0,
    );
    await log.log(
      [
        entry(300, { eval_loss: 1.5, eval_log_loss: 0.9375, eval_samples_per_second: 12.5 }),
        entry(2 ** 33, { train_loss: 0.5, train_runtime: 60, total_flos: 0 }),
      ],
      1,
    );
    await log.finish("finished");
    const [file] = filesIn(folder.path);
    expect(file!.version).toBe("brain.Event:2");
    expect(file!.starts).toEqual([0]);
    expect(file!.points.map(({ step, tag, value }) => [step, tag, value])).toEqual([
      [300, "train/epoch", 30],
      [300, "train/loss", Math.fround(0.1)],
      [300, "train/grad_norm", Number.NaN],
      [300, "train/learning_rate", Math.fround(1.7e-4)],
      [300, "train/tokens_per_second", 7250],
      [300, "train/epoch", 30],
      [300, "eval/loss", 1.5],
      [300, "eval/log_loss", 0.9375],
      [300, "eval/samples_per_second", 12.5],
      [2 ** 33, "train/epoch", Math.fround(2 ** 33 / 10)],
      [2 ** 33, "train/train_loss", 0.5],
      [2 ** 33, "train/train_runtime", 60],
      [2 ** 33, "train/total_flos", 0],
    ]);
    for (const { wallTime } of file!.points) {
      expect(wallTime).toBeGreaterThanOrEqual(before);
      expect(wallTime).toBeLessThanOrEqual(Date.now() / 1000);
    }
  });

  test("lies beside a place that is no folder: one error with the path", async () => {
    await using folder = await temporaryFolder();
    await writeFile(join(folder.path, "file"), "");
    const failed = await started(join(folder.path, "file", "runs")).catch((error: unknown) => error);
    expect(failed).toMatchObject({ code: "FILE_WRITE_FAILED" });
    expect(String(failed)).toContain(join("file", "runs", "events.out.tfevents."));
  });
});

describe("reportTo", () => {
  const loss = (step: number, value: number): LogEntry => entry(step, { loss: value });
  const losses = (folder: string): unknown[] =>
    shownPoints(filesIn(folder)).flatMap(({ tag, step, value }) => (tag === "train/loss" ? [[step, value]] : []));

  /** A start of a run: what its log held before, and what it adds. */
  async function start(
    outputDir: string,
    { before = [], firstStep = 1, loggingDir }: { before?: LogEntry[]; firstStep?: number; loggingDir?: string },
    added: readonly LogEntry[],
  ): Promise<void> {
    const entries = [...before];
    const options = {
      plugins: [tensorboard()],
      outputDir,
      runName: undefined,
      loggingDir,
      config: {},
      entries,
      firstStep,
    };
    const reporting = await openReporting({ ...options, onEvent: undefined, onFailure: () => "" });
    for (const each of added) {
      entries.push(each);
      reporting.wake();
    }
    expect(await reporting.conclude("interrupted")).toEqual([]);
  }

  test("a run that goes on from a checkpoint shows every step once", async () => {
    await using folder = await temporaryFolder();
    await start(
      folder.path,
      {},
      [1, 2, 3, 4].map((step) => loss(step, step)),
    );
    // It stopped after step 4; its newest checkpoint is of step 2.
    const before = [loss(1, 1), loss(2, 2)];
    await start(
      folder.path,
      { before, firstStep: 3 },
      [3, 4, 5].map((step) => loss(step, step + 0.5)),
    );
    const runs = join(folder.path, "runs");
    expect(filesIn(runs).map(({ starts }) => starts)).toEqual([[0], [3]]);
    expect(losses(runs)).toEqual([
      [1, 1],
      [2, 2],
      [3, 3.5],
      [4, 4.5],
      [5, 5.5],
    ]);
  });

  test("loggingDir names another folder; replacing a run removes its event files, and no others", async () => {
    await using folder = await temporaryFolder();
    const outputDir = join(folder.path, "run");
    const loggingDir = join(folder.path, "logs");
    await mkdir(outputDir);
    await start(outputDir, { loggingDir }, [loss(1, 1)]);
    await start(outputDir, {}, [loss(1, 1)]);
    await writeFile(join(outputDir, "runs", "notes.txt"), "mine");
    await writeFile(join(outputDir, "run.json"), "{}");
    await createRunFolder(outputDir, true);
    expect(readdirSync(join(outputDir, "runs"))).toEqual(["notes.txt"]);
    expect(existsSync(join(outputDir, "reporters.json"))).toBe(false);
    expect(losses(loggingDir)).toEqual([[1, 1]]);
  });

  test("takes each reporter once, and says where the list is", async () => {
    await using folder = await temporaryFolder();
    const { input } = await metaConfig(folder.path);
    expect(defineConfig(input).reportTo).toEqual([]);
    const twice = (): unknown => defineConfig({ ...input, reportTo: [tensorboard(), tensorboard()] });
    expect(twice).toThrow("reportTo: got tensorboard twice, expected each reporter once");
    const inTraining = { ...input.training, reportTo: ["tensorboard"] };
    expect(() => defineConfig({ ...input, training: inTraining })).toThrow(
      "reportTo is a list of reporters beside training: reportTo: [tensorboard()]",
    );
  });
});
