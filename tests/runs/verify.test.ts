/** qlora verify: what is whole, what is not, and what of it is removed or mended. */
import { afterAll, beforeAll, beforeEach, expect, test } from "bun:test";
import { appendFile, cp, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { lockRunFolder } from "../../runtime/folder/folder.ts";
import { crossValidate } from "../../sdk/cross-validate.ts";
import { verifyRun } from "../../sdk/verify.ts";
import { qlora } from "../support/command-line.ts";
import { failure } from "../support/failure.ts";
import { onMeta, metaConfig, metaGpus, metaTrain } from "../support/meta-run.ts";

let root = "";
let made = "";
let run = "";

beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), "qlora-verify-"));
  made = join(root, "run");
  await metaTrain(await metaConfig(root, { training: { maxSteps: 3, evalStrategy: "epoch" }, data: { nSplits: 3 } }));
});
beforeEach(async () => {
  run = join(root, "copy");
  await rm(run, { recursive: true, force: true });
  await cp(made, run, { recursive: true });
});
afterAll(() => rm(root, { recursive: true, force: true }));

/** Name and state of each part that is not whole. */
async function odd(repair = true): Promise<string[]> {
  const { parts } = await verifyRun(run, { repair });
  return parts
    .filter(({ state }) => state !== "whole")
    .map(({ path, state }) => `${path.slice(run.length + 1)} ${state}`);
}

test("a run that ended is whole, in every part", async () => {
  const { whole, parts } = await verifyRun(run);
  expect(whole).toBe(true);
  expect(parts.map(({ path, step }) => [path.slice(run.length + 1), step])).toEqual([
    ["run.json", undefined],
    ["metrics.jsonl", undefined],
    ["trainer_state.json", undefined],
    ["evaluation.json", undefined],
    ["adapter_model.safetensors", 3],
    ["checkpoint-1", 1],
    ["checkpoint-2", 2],
    ["checkpoint-3", 3],
  ]);
});

test("half-deleted checkpoints and temporary files are removed where something newer is whole, a cut line is mended", async () => {
  await rm(join(run, "checkpoint-1", "manifest.json"));
  await rm(join(run, "checkpoint-2", "optimizer.safetensors"));
  const dead = Bun.spawnSync(["true"]).pid;
  await mkdir(join(run, `checkpoint-4.tmp-${dead}`));
  await writeFile(join(run, `run.json.tmp-${dead}`), "{");
  await appendFile(join(run, "metrics.jsonl"), '{"step":9,"ep');
  const told = ["half", "half", "half", "half", "half"];
  expect((await odd(false)).map((line) => line.split(" ")[1]!)).toEqual(told);
  expect(await odd()).toEqual([
    expect.stringMatching(/^(checkpoint-4|run\.json)\.tmp-\d+ removed$/),
    expect.stringMatching(/^(checkpoint-4|run\.json)\.tmp-\d+ removed$/),
    "metrics.jsonl mended",
    "checkpoint-1 removed",
    "checkpoint-2 removed",
  ]);
  expect(await odd()).toEqual([]);
  expect((await readdir(run)).filter((name) => /checkpoint|tmp/.test(name))).toEqual(["checkpoint-3"]);
  expect(await readFile(join(run, "metrics.jsonl"), "utf8")).toBe(await readFile(join(made, "metrics.jsonl"), "utf8"));
});

test("the newest is not removed, however half; damage is told and left", async () => {
  await rm(join(run, "checkpoint-3", "manifest.json"));
  const state = join(run, "checkpoint-2", "training_state.json");
  await writeFile(state, (await readFile(state, "utf8")).replace('"step": 2', '"step": 1'));
  await writeFile(join(run, "evaluation.json"), "{}");
  expect(await odd()).toEqual(["evaluation.json damaged", "checkpoint-2 damaged", "checkpoint-3 half"]);
  expect((await readdir(run)).filter((name) => name.startsWith("checkpoint-"))).toHaveLength(3);
  expect((await verifyRun(run)).whole).toBe(false);
});

test("through the command line: a table, the problems beside it, and the exit code", async () => {
  const whole = await qlora("verify", run);
  expect(whole.code).toBe(0);
  expect(whole.stdout.split("\n")[0]).toBe(`whole          ${run}/run.json`);
  const weights = join(run, "checkpoint-3", "adapter_model.safetensors");
  const bytes = await readFile(weights);
  bytes[bytes.length - 2]! ^= 64;
  await writeFile(weights, bytes);
  const damaged = await qlora("verify", run, "--dry-run");
  expect(damaged.code).toBe(1);
  expect(damaged.stdout).toContain(`damaged  step 3  ${run}/checkpoint-3`);
  expect(damaged.stderr).toContain(`${weights}: its sha256 is not that of manifest.json`);
  const json = await qlora("verify", run, "--json");
  expect(JSON.parse(json.stdout)).toMatchObject([{ outputDir: run, whole: false }]);
});

test("a run that is being written, and a folder that holds none", async () => {
  await using _ = await lockRunFolder(run);
  expect(await failure(verifyRun(run))).toContain("another run is writing");
  expect(await odd(false)).toEqual([]);
  expect(await failure(verifyRun(join(root, "cache")))).toContain("holds no run, no checkpoint and no adapter");
});

test("a checkpoint alone, a run of qlora 0.1.0, and a cross-validation", async () => {
  expect((await verifyRun(join(run, "checkpoint-2"))).parts).toMatchObject([{ state: "whole", step: 2 }]);
  const record = JSON.parse(await readFile(join(run, "run.json"), "utf8")) as Record<string, unknown>;
  delete record["lineage"];
  await writeFile(join(run, "run.json"), JSON.stringify(record));
  for (const name of ["", "checkpoint-1", "checkpoint-2", "checkpoint-3"]) await rm(join(run, name, "manifest.json"));
  await rm(join(run, "checkpoint-1", "training_state.json")); // it was being deleted
  expect(await odd()).toEqual([
    "adapter_model.safetensors unchecked",
    "checkpoint-1 removed",
    "checkpoint-2 unchecked",
    "checkpoint-3 unchecked",
  ]);
  const config = await metaConfig(root, { training: { outputDir: join(root, "cv") } });
  await onMeta(metaGpus(), () => crossValidate(config, 2));
  const { parts, whole } = await verifyRun(join(root, "cv"));
  expect([whole, parts.length]).toEqual([true, 15]);
});
