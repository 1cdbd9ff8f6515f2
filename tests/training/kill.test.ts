/** A training process that is killed or interrupted, through the command line. */
import { describe, expect, test } from "bun:test";
import { existsSync, statSync } from "node:fs";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { demoCsv } from "../../demo/generate.ts";
import { writeFileAtomic } from "../../runtime/files/files.ts";
import { openSafetensors } from "../../runtime/files/folder.ts";
import { readTrainingState } from "../../runtime/folder/training-state.ts";
import { tiers } from "../support/gpu.ts";
import { tinyCheckpoint } from "../support/reference.ts";
import { temporaryFolder, testProvider } from "../support/run.ts";
import { until } from "../support/until.ts";

const cli = join(import.meta.dir, "../../cli/main.ts");

async function start(folder: string, ...extra: readonly string[]): Promise<Bun.Subprocess<"ignore", "ignore", "pipe">> {
  await writeFileAtomic(join(folder, "arena.csv"), demoCsv(60, 3));
  const flags = `--model.checkpoint ${tinyCheckpoint} --train-files ${folder}/arena.csv --max-length 64 --cache-dir ${folder}/cache
    --adapter.rank 4 --adapter.layers-to-transform 3 --per-device-train-batch-size 2 --save-steps 1 --save-total-limit 3
    --output-dir ${folder}/run --tier f32 --gpu ${testProvider}`;
  return Bun.spawn([process.execPath, cli, "train", ...flags.split(/\s+/), ...extra], {
    stdin: "ignore",
    stdout: "ignore",
    stderr: "pipe",
  });
}

const untilExists = (path: string): Promise<void> => until(`${path} appears`, () => existsSync(path));

describe.skipIf(tiers.length === 0)("a run that is stopped", () => {
  test("by kill -9 while it saves: every checkpoint left is whole, and it goes on", async () => {
    await using folder = await temporaryFolder();
    const run = join(folder.path, "run");
    const first = await start(folder.path, "--max-steps", "500");
    await untilExists(join(run, "checkpoint-4"));
    await until("it is in the midst of a save", async () =>
      (await readdir(run)).some((name) => name.startsWith("checkpoint-") && name.includes(".tmp-")),
    );
    first.kill("SIGKILL");
    await first.exited;
    const steps = (await readdir(run)).flatMap((name) => /^checkpoint-(\d+)$/.exec(name)?.[1] ?? []).map(Number);
    expect(steps.length).toBeGreaterThan(0);
    for (const step of steps) {
      const state = await readTrainingState(join(run, `checkpoint-${step}`));
      expect(state.step).toBe(step);
      await using adapter = await openSafetensors(join(run, `checkpoint-${step}`, "adapter_model.safetensors"));
      expect(adapter.tensors.size).toBeGreaterThan(2);
    }
    const last = Math.max(...steps);
    const second = await start(folder.path, "--max-steps", String(last + 2), "--resume-from-checkpoint");
    const said = await new Response(second.stderr).text();
    expect(await second.exited, said).toBe(0);
    const left = (await readdir(run)).filter((name) => name.startsWith("checkpoint-"));
    expect(left).toContain(`checkpoint-${last + 2}`);
    expect(left.every((name) => /^checkpoint-\d+$/.test(name))).toBe(true);
    expect(left.length).toBeLessThanOrEqual(3);
  }, 180_000);

  test("by SIGINT: it finishes the step, saves and exits 130", async () => {
    await using folder = await temporaryFolder();
    const run = join(folder.path, "run");
    const process = await start(folder.path, "--max-steps", "500", "--save-steps", "1000", "--logging-steps", "1");
    const log = join(run, "metrics.jsonl");
    await until("it has taken a step", () => (statSync(log, { throwIfNoEntry: false })?.size ?? 0) > 0);
    process.kill("SIGINT");
    const said = await new Response(process.stderr).text();
    expect(await process.exited, said).toBe(130);
    const [checkpoint] = (await readdir(run)).filter((name) => /^checkpoint-\d+$/.test(name));
    expect(checkpoint).toBeDefined();
    const state = await readTrainingState(join(run, checkpoint!));
    expect(`checkpoint-${state.step}`).toBe(checkpoint!);
  }, 120_000);
});
