/** Reporters beside a run: what they get of one that trains, fails, is left or goes on, and `syncRun` afterwards. */
import { expect, test } from "bun:test";
import { existsSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { defineOptions, defineReporter, type ReporterEntry, type ReporterRun } from "../../core/index.ts";
import { tensorboard } from "../../plugins/index.ts";
import type { RunEvent } from "../../runtime/events.ts";
import { trainSteps } from "../../runtime/run/train.ts";
import { syncRun } from "../../sdk/sync.ts";
import { metaConfig, metaGpus, metaTrain, onMeta } from "../support/meta-run.ts";
import { temporaryFolder } from "../support/run.ts";

/** A tracker in memory, which fails while `down`. */
class Tracker {
  readonly runs: ReporterRun[] = [];
  readonly entries: ReporterEntry[] = [];
  readonly files: string[] = [];
  readonly ends: string[] = [];
  down = false;

  readonly reporter = defineReporter({
    name: "memory",
    options: defineOptions({}),
    create: () => {
      const work = (): void => {
        if (this.down) throw new Error("memory is down");
      };
      return {
        start: async (run) => {
          work();
          this.runs.push(run);
          return { id: run.before?.["id"] ?? "first" };
        },
        log: async (entries, at) => {
          work();
          this.entries.splice(at, Infinity, ...entries);
        },
        artefact: async ({ name, read }) => void this.files.push(`${name} ${(await read()).byteLength > 0}`),
        finish: async (status) => void this.ends.push(status),
      };
    },
  });
}

const logged = (run: string): unknown[] =>
  readFileSync(join(run, "metrics.jsonl"), "utf8")
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as unknown);

test("a run tells its name, config, log, files and end", async () => {
  await using folder = await temporaryFolder();
  const tracker = new Tracker();
  const config = await metaConfig(folder.path, { reportTo: [tracker.reporter()], training: { runName: "night" } });
  const run = (await metaTrain(config)).outputDir;
  expect(tracker.runs).toMatchObject([
    { name: "night", firstStep: 1, before: undefined, config: { model: { name: "paper" }, training: { maxSteps: 2 } } },
  ]);
  expect(JSON.parse(JSON.stringify(tracker.entries))).toEqual(logged(run));
  expect(tracker.files).toEqual(["report.html true", "adapter_config.json true", "adapter_model.safetensors true"]);
  expect(tracker.ends).toEqual(["finished"]);
  const record = JSON.parse(readFileSync(join(run, "run.json"), "utf8")) as { config: Record<string, unknown> };
  expect(record.config["reportTo"]).toEqual([{ name: "memory", options: {} }]);
});

test("a tracker that fails never stops the run, says so once, and gets the run by syncRun, once", async () => {
  await using folder = await temporaryFolder();
  const tracker = new Tracker();
  tracker.down = true;
  const events: RunEvent[] = [];
  const config = await metaConfig(folder.path, { reportTo: [tracker.reporter()] });
  const result = await metaTrain(config, { onEvent: (event) => events.push(event) });
  expect(result.steps).toBe(2);
  const told = events.flatMap((event) =>
    event.type === "warning" && event.message.includes("memory") ? [event.message] : [],
  );
  expect(told).toEqual([
    `reporter memory: memory is down; the run goes on, its folder keeps what memory did not get: qlora sync ${result.outputDir}`,
  ]);
  const reportTo = [tracker.reporter()];
  const refused = await syncRun(result.outputDir, { reportTo }).catch((error: unknown) => error);
  expect(refused).toMatchObject({ code: "SYNC_FAILED", message: "reporter memory: memory is down" });

  tracker.down = false;
  expect(await syncRun(result.outputDir, { reportTo })).toMatchObject({ sent: ["memory"], before: [] });
  expect(JSON.parse(JSON.stringify(tracker.entries))).toEqual(logged(result.outputDir));
  expect(tracker.ends).toEqual(["finished"]);
  expect(await syncRun(result.outputDir, { reportTo })).toMatchObject({ sent: [], before: ["memory"] });
  expect(tracker.runs).toHaveLength(1);
});

test("what fails midway comes again, and a run that goes on from a checkpoint keeps the tracker's id", async () => {
  await using folder = await temporaryFolder();
  const tracker = new Tracker();
  const reportTo = [tracker.reporter()];
  const stop = new AbortController();
  const config = await metaConfig(folder.path, { reportTo, training: { maxSteps: 3 } });
  await onMeta(metaGpus(), async () => {
    for await (const { step } of trainSteps(config, { signal: stop.signal })) if (step === 1) stop.abort();
  });
  expect(tracker.ends).toEqual(["interrupted"]);
  const again = { maxSteps: 3, resumeFromCheckpoint: true };
  const { outputDir } = await metaTrain(await metaConfig(folder.path, { reportTo, training: again }));
  expect(tracker.runs.map(({ firstStep, before }) => [firstStep, before])).toEqual([
    [1, undefined],
    [2, { id: "first" }],
  ]);
  expect(JSON.parse(JSON.stringify(tracker.entries))).toEqual(logged(outputDir));
  expect(tracker.ends).toEqual(["interrupted", "finished"]);
});

test("an error tells failed, and whoever takes no more steps interrupted", async () => {
  await using folder = await temporaryFolder();
  const tracker = new Tracker();
  const config = await metaConfig(folder.path, {
    reportTo: [tracker.reporter()],
    training: { overwriteOutputDir: true },
  });
  const computeGradients = async (): Promise<never> => {
    throw new Error("mine");
  };
  const failed = await metaTrain(config, { computeGradients }).catch((error: unknown) => String(error));
  expect(failed).toContain("mine");
  await onMeta(metaGpus(), async () => {
    for await (const { step } of trainSteps(config)) if (step === 1) break;
  });
  expect(tracker.ends).toEqual(["failed", "interrupted"]);
});

test("syncRun refuses a run without reporters, and finds those of its record", async () => {
  await using folder = await temporaryFolder();
  const { outputDir } = await metaTrain(await metaConfig(folder.path));
  expect(existsSync(join(outputDir, "reporters.json"))).toBe(false);
  const refused = await syncRun(outputDir).catch((error: unknown) => error);
  expect(refused).toMatchObject({ code: "SYNC_REPORTERS" });
  expect(await syncRun(outputDir, { reportTo: [tensorboard()] })).toMatchObject({ sent: ["tensorboard"] });

  const training = { overwriteOutputDir: true };
  await metaTrain(await metaConfig(folder.path, { reportTo: [tensorboard()], training }));
  expect(await syncRun(outputDir)).toMatchObject({ sent: [], before: ["tensorboard"] });
  rmSync(join(outputDir, "reporters.json"));
  expect(await syncRun(outputDir)).toMatchObject({ sent: ["tensorboard"], before: [] });
});
