import { afterAll, afterEach, beforeEach, expect, test } from "bun:test";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gemma2 } from "../../plugins/index.ts";
import { openBaseModel } from "../../runtime/session/base-model.ts";
import { qlora } from "../support/command-line.ts";
import { tiers } from "../support/gpu.ts";
import { tinyCheckpoint } from "../support/reference.ts";
import { hubClient, hubTest } from "./hub-model.ts";
import { COMMIT, startHub, type FakeHub } from "./server.ts";

const ID = "tiny/gemma2-nf4";
const root = mkdtempSync(join(tmpdir(), "qlora-hub-cli-"));
const saved = { ...process.env };
const home = process.cwd();
afterAll(() => rmSync(root, { recursive: true, force: true }));

const files = new Map(
  readdirSync(tinyCheckpoint).map((name) => [name, new Uint8Array(readFileSync(join(tinyCheckpoint, name)))]),
);
let server: FakeHub;
let cache: string;
beforeEach(async () => {
  server = await startHub(ID, files);
  cache = mkdtempSync(join(root, "cache-"));
  Object.assign(process.env, {
    HF_ENDPOINT: server.url,
    HF_HUB_CACHE: cache,
    HF_HOME: root,
    HF_TOKEN: "",
    HF_HUB_OFFLINE: "",
  });
  process.chdir(mkdtempSync(join(root, "run-")));
});
afterEach(async () => {
  process.chdir(home);
  for (const name of ["HF_ENDPOINT", "HF_HUB_CACHE", "HF_HOME", "HF_TOKEN", "HF_HUB_OFFLINE"]) {
    if (saved[name] === undefined) delete process.env[name];
    else process.env[name] = saved[name];
  }
  await server.stop();
});

const snapshot = (): string => join(cache, "models--tiny--gemma2-nf4", "snapshots", COMMIT);

hubTest(
  "--model takes a hub id: its config.json chooses the plugin, and nothing more is fetched to inspect it",
  async () => {
    const { code, stdout } = await qlora("inspect", "--model", ID, "--adapter.rank", "2");
    expect(code).toBe(0);
    expect(stdout).toMatch(/trainable params: /);
    expect(readdirSync(snapshot())).toEqual(["config.json"]);
  },
);

test("--model takes a folder, and keeps the options of the preset", async () => {
  const { stdout } = await qlora("train", "--preset", "lmsys-seed", "--model", tinyCheckpoint, "--print-config");
  expect(JSON.parse(stdout)).toMatchObject({
    model: { name: "gemma2", options: { checkpoint: tinyCheckpoint, attnLogitSoftcapping: 0 } },
  });
  expect(server.requests).toEqual([]);
});

hubTest("problems of --model", async () => {
  const of = async (...argv: string[]): Promise<{ code: number; stderr: string }> =>
    qlora("train", ...argv, "--print-config");
  const both = await of("--model", ID, "--model.checkpoint", "x");
  expect(both).toMatchObject({
    code: 2,
    stderr: expect.stringContaining("--model.checkpoint: got one beside a checkpoint in --model"),
  });
  const none = await of("--model", "./nowhere");
  expect(none).toMatchObject({ code: 2, stderr: expect.stringContaining('there is no folder "./nowhere"') });
  const typo = await of("--model", "gema2");
  expect(typo).toMatchObject({ code: 2, stderr: expect.stringContaining('did you mean "gemma2"?') });
  server.misbehaviour.refuse = { status: 401, code: "GatedRepo" };
  const gated = await of("--model", "tiny/gated");
  expect(gated.code).toBe(1);
  expect(gated.stderr).toMatch(/tiny\/gated is gated on .*\n.*set HF_TOKEN/);
  delete server.misbehaviour.refuse;
  writeFileSync("config.json", JSON.stringify({ model_type: "falcon" }));
  const other = await of("--model", process.cwd());
  expect(other).toMatchObject({
    code: 2,
    stderr: expect.stringContaining('config.json says model_type "falcon", expected one of gemma2'),
  });
});

test.skipIf(!hubClient || !tiers.includes("f32"))(
  "train by id, then predict offline: the adapter names the id, the record its commit",
  async () => {
    writeFileSync("rows.jsonl", [0, 1].map((label) => `${JSON.stringify({ text: `row ${label}`, label })}\n`).join(""));
    const flags = ["--max-steps", "1", "--per-device-train-batch-size", "2", "--adapter.rank", "2", "--tier", "f32"];
    const { code, stderr } = await qlora("train", "--model", ID, "--train-files", "rows.jsonl", ...flags);
    expect({ code, stderr }).toEqual({
      code: 0,
      stderr: expect.stringContaining(`downloading ${ID} (commit 5a3f0a0) from 127.0.0.1`),
    });
    expect(stderr).toContain("global batch 2 = 2 per device x 1 accumulated; 1 steps over 2 rows");
    expect(JSON.parse(readFileSync("output/adapter_config.json", "utf8"))).toMatchObject({
      base_model_name_or_path: ID,
    });
    expect(JSON.parse(readFileSync("output/run.json", "utf8"))).toMatchObject({
      baseModel: { name: ID, sha: COMMIT, directory: snapshot() },
      config: { model: { options: { checkpoint: ID } } },
    });

    await server.stop();
    server.requests.length = 0;
    process.env["HF_HUB_OFFLINE"] = "1";
    rmSync("output/run.json"); // what is left is any PEFT adapter: its base model is looked up by name
    const offline = await qlora("predict", "output", "rows.jsonl", "--tier", "f32");
    expect(offline).toMatchObject({ code: 0 });
    expect(offline.stdout.trim().split("\n")).toHaveLength(3);
  },
  60_000,
);

hubTest("a run goes on with the commit that it began with", async () => {
  const plugin = gemma2({ checkpoint: ID });
  const first = await openBaseModel(plugin);
  expect(first).toMatchObject({ name: ID, sha: COMMIT });
  expect(first.source.checkpoint).toBe(snapshot());
  server.requests.length = 0;
  expect(await openBaseModel(plugin, { before: first })).toMatchObject({ name: ID, sha: COMMIT });
  expect(server.requests).toEqual([]); // a commit in the cache needs no network
  await openBaseModel(plugin, { before: { name: "other/model", sha: COMMIT } });
  expect(server.requests).toHaveLength(1);
});
