/** What goes wrong while ranks train: every rank ends, checkpoints stay whole, and a sentence tells what was lost. */
import { describe, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { demoCsv } from "../../demo/generate.ts";
import { writeFileAtomic } from "../../index.ts";
import { tiers } from "../support/gpu.ts";
import { hasMpi, qloraProgram, type Ranks, runRanks, start, startRanks } from "../support/ranks.ts";
import { tinyCheckpoint } from "../support/reference.ts";
import { temporaryFolder } from "../support/run.ts";
import { until } from "../support/until.ts";

const script = join(import.meta.dir, "fixtures/train.ts");
const train = (folder: string, ...extra: readonly string[]): string[] =>
  qloraProgram(
    ..."train --adapter.rank 4 --adapter.layers-to-transform 3 --max-length 32 --tier f32 --max-steps 4000 --logging-steps 1 --save-steps 2 --save-total-limit 3".split(
      " ",
    ),
    "--model.checkpoint",
    tinyCheckpoint,
    "--train-files",
    `${folder}/arena.csv`,
    "--cache-dir",
    `${folder}/cache`,
    "--output-dir",
    `${folder}/run`,
    ...extra,
  );

/** Waits for the first checkpoint. @returns process ids of the ranks */
async function underWay(folder: string): Promise<readonly number[]> {
  await until("the first checkpoint", () => existsSync(join(folder, "run/checkpoint-2/manifest.json")));
  const record = JSON.parse(await readFile(join(folder, "run/run.json"), "utf8")) as { ranks: { pid: number }[] };
  return record.ranks.map(({ pid }) => pid);
}

const running = (pid: number): boolean => {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
};

/** Goes on from what ranks left, in one process: another number of ranks. */
async function goesOn(folder: string): Promise<void> {
  const steps = (await readdir(join(folder, "run"))).flatMap((name) => /^checkpoint-(\d+)$/.exec(name)?.[1] ?? []);
  const last = Math.max(...steps.map(Number));
  const program = train(folder, "--resume-from-checkpoint", "--max-steps", String(last + 1));
  const { code, stderr } = await start([process.execPath, ...program]).ended;
  expect(code, stderr).toBe(0);
  expect(existsSync(join(folder, "run/adapter_model.safetensors"))).toBe(true);
}

async function begin(folder: string, how: (program: string[]) => Ranks): Promise<Ranks> {
  await writeFileAtomic(join(folder, "arena.csv"), demoCsv(48, 7));
  return how(train(folder));
}

describe.skipIf(!hasMpi || !tiers.includes("f32"))("ranks in trouble", () => {
  test("--gpus 2 and Ctrl-C: the step is finished and saved, 130, and one process goes on from there", async () => {
    await using folder = await temporaryFolder();
    const ranks = await begin(folder.path, (program) => start([process.execPath, ...program, "--gpus", "2"]));
    const pids = await underWay(folder.path);
    ranks.process.kill("SIGINT");
    const { code, stderr } = await ranks.ended;
    expect(code, stderr).toBe(130);
    expect(stderr).toMatch(/starting \S*mpirun -n 2 --bind-to none .*cli\/main\.ts train /);
    expect(stderr).toContain(
      "global batch 8 = 8 per device x 1 accumulated over 2 ranks, as on one (DDP's would be 16:",
    );
    expect(stderr.match(/interrupted after \d+ of 4000 steps/g)).toHaveLength(1);
    expect(pids.filter(running)).toEqual([]);
    await goesOn(folder.path);
  }, 120_000);

  test("mpirun and SIGTERM: all ranks stop after the same step", async () => {
    await using folder = await temporaryFolder();
    const ranks = await begin(folder.path, (program) => startRanks(2, program));
    const pids = await underWay(folder.path);
    ranks.process.kill("SIGTERM");
    const { stderr } = await ranks.ended;
    expect(stderr.match(/interrupted after \d+ of 4000 steps/g)).toHaveLength(1);
    expect(pids.filter(running)).toEqual([]);
  }, 120_000);

  test("a rank that is killed ends all, is told with the last checkpoint, and the run goes on from it", async () => {
    await using folder = await temporaryFolder();
    const ranks = await begin(folder.path, (program) => start([process.execPath, ...program, "--gpus", "2"]));
    const pids = await underWay(folder.path);
    process.kill(pids[1]!, "SIGKILL");
    const { code, stderr } = await ranks.ended;
    expect(code).toBe(1);
    expect(stderr).toMatch(
      /mpirun ended with code \d+: a rank was killed .*; the last checkpoint is \S+\/run\/checkpoint-\d+, from which/,
    );
    await until("both processes are gone", () => pids.filter(running).length === 0);
    await goesOn(folder.path);
  }, 120_000);

  test("a rank that hangs is named with host, step and last checkpoint after the deadline", async () => {
    await using folder = await temporaryFolder();
    const deadline = { QLORA_MPI_DEADLINE: "3" };
    const ranks = await begin(folder.path, (program) => startRanks(2, program, deadline));
    const pids = await underWay(folder.path);
    process.kill(pids[1]!, "SIGSTOP");
    const { code, stderr } = await ranks.ended;
    expect(code).not.toBe(0);
    expect(stderr).toMatch(
      /rank 0 on \S+, step \d+, last checkpoint \S+\/run\/checkpoint-\d+: rank 1 \(process \d+ on \S+\) did not come within 3 s, while waiting for step \d+/,
    );
    await until("both processes are gone", () => pids.filter(running).length === 0);
  }, 120_000);

  test("a disk that is full on rank 0 ends all, and the checkpoint before stays whole", async () => {
    await using folder = await temporaryFolder();
    const asked = { folder: folder.path, run: "full", steps: 8, trouble: "disk" };
    const { code, stderr } = await runRanks(2, [script], { ASKED: JSON.stringify(asked) });
    expect(code).not.toBe(0);
    expect(stderr).toContain("ENOSPC");
    const names = (await readdir(join(folder.path, "full"))).filter((name) => /^checkpoint-\d+$/.test(name));
    expect(names).toEqual(["checkpoint-2"]);
  }, 120_000);

  test("a rank with another config, and one whose GPU is too small, are told before the first step", async () => {
    await using folder = await temporaryFolder();
    const asked = { folder: folder.path, run: "unlike", steps: 2 };
    const other = await runRanks(2, [script], { ASKED: JSON.stringify({ ...asked, trouble: "config" }) });
    expect(other.code).not.toBe(0);
    expect(other.stderr).toMatch(
      /the run: config\.training\.learningRate: 0\.001 on rank 0, but 0\.002 on rank 1 on \S+/,
    );
    const small = await runRanks(2, [script], { ASKED: JSON.stringify({ ...asked, trouble: "memory" }) });
    expect(small.code).not.toBe(0);
    expect(small.stderr).toContain("1024 bytes given as memoryBudget");
  }, 120_000);

  test("a command that several processes would do several times is refused", async () => {
    const { code, stderr } = await runRanks(2, qloraProgram("merge", "nowhere"));
    expect(code).toBe(2);
    expect(
      stderr.match(/merge: an MPI launcher started several processes, but this command runs in one/g),
    ).toHaveLength(1);
  }, 60_000);
});
