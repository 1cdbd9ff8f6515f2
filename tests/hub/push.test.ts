/** `push`, against a hub that takes files. */
import { afterAll, afterEach, beforeAll, beforeEach, expect } from "bun:test";
import { readFileSync } from "node:fs";
import { mkdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { RunEvent } from "../../runtime/events.ts";
import type { HubEnvironment } from "../../runtime/hub/index.ts";
import { push } from "../../sdk/push/index.ts";
import { metaConfig, metaTrain } from "../support/meta-run.ts";
import { temporaryFolder } from "../support/run.ts";
import { hubTest } from "./hub-model.ts";
import { startTakingHub, type TakingHub } from "./push-server.ts";

const [REPO, TOKEN] = ["me/judge", "hf_secretSecretSecret"];
let folder: Awaited<ReturnType<typeof temporaryFolder>>;
let run = "";
let server: TakingHub;

beforeAll(async () => {
  folder = await temporaryFolder();
  const training = { evalStrategy: "epoch", maxSteps: 3 } as const;
  run = (await metaTrain(await metaConfig(folder.path, { data: { nSplits: 3 }, training }))).outputDir;
});
afterAll(() => folder[Symbol.asyncDispose]());
beforeEach(async () => void (server = await startTakingHub(REPO, TOKEN)));
afterEach(() => server[Symbol.asyncDispose]());

const hub = (parts: Partial<HubEnvironment> = {}): HubEnvironment => ({
  endpoint: server.url,
  token: TOKEN,
  cacheDir: "cache",
  offline: false,
  answerTimeout: 5000,
  stallTimeout: 5000,
  retryDelay: 1,
  ...parts,
});
const text = (name: string): string => server.files.get(name)!.toString();

hubTest("an adapter goes to a private repository with a card, its curve and no path of this machine", async () => {
  const events: RunEvent[] = [];
  const pushed = await push(
    { folder: run, repo: REPO, baseModel: "google/gemma-2-9b" },
    { hub: hub(), onEvent: (event) => events.push(event) },
  );
  expect(pushed).toMatchObject({ kind: "adapter", url: `${server.url}/me/judge`, created: true, unchanged: [] });
  expect(server.made).toMatchObject([{ name: "judge", organization: "me", visibility: "private", type: "model" }]);
  expect([...server.files.keys()].sort()).toEqual([
    "README.md",
    "adapter_config.json",
    "adapter_model.safetensors",
    "curve.svg",
    "qlora.json",
  ]);
  expect(
    server.files.get("adapter_model.safetensors")!.equals(readFileSync(join(run, "adapter_model.safetensors"))),
  ).toBe(true);
  expect(JSON.parse(text("adapter_config.json"))).toMatchObject({ base_model_name_or_path: "google/gemma-2-9b", r: 1 });
  const card = text("README.md");
  for (const line of [
    'base_model: "google/gemma-2-9b"',
    "library_name: peft",
    '- "base_model:adapter:google/gemma-2-9b"',
    "qlora predict me/judge rows.csv",
    "![Loss over steps](curve.svg)",
    "| training files | rows.jsonl |",
    "| `training.maxSteps` | 3 |",
    "| `adapter.options.rank` | 1 |",
    "| steps | 3 |",
  ])
    expect(card).toContain(line);
  expect(card).toMatch(/^\| log_loss \| \d/m);
  expect(card + text("curve.svg") + text("adapter_config.json")).not.toContain(folder.path);
  expect(text("curve.svg")).toMatch(/^<svg [^>]*>\n[\s\S]*<polyline [\s\S]*train loss[\s\S]*<\/svg>\n$/);
  expect(JSON.stringify(events) + JSON.stringify(pushed)).not.toContain(TOKEN);
});

hubTest("the same push again sends nothing, and a changed file alone", async () => {
  await push({ folder: run, repo: REPO, public: true }, { hub: hub() });
  expect(server.made).toMatchObject([{ visibility: "public" }]);
  const commits = server.commits.length;
  const again = await push({ folder: run, repo: REPO }, { hub: hub() });
  expect([again.created, again.uploaded, server.commits.length]).toEqual([false, [], commits]);
  server.files.set("README.md", Buffer.from("of somebody else"));
  const third = await push({ folder: run, repo: REPO }, { hub: hub() });
  expect(third.uploaded).toEqual(["README.md"]);
});

hubTest("a merged model that is cut midway goes on from the shard that is missing", async () => {
  const merged = join(folder.path, "merged");
  await mkdir(merged, { recursive: true });
  const shard = (byte: number): Buffer => Buffer.alloc(10 * 2 ** 20, byte);
  await writeFile(join(merged, "config.json"), '{"architectures":["Gemma2ForSequenceClassification"]}');
  await writeFile(join(merged, "model-00001-of-00002.safetensors"), shard(1));
  await writeFile(join(merged, "model-00002-of-00002.safetensors"), shard(2));
  await writeFile(join(merged, "notes.log"), "mine");
  let puts = 0;
  server.trouble = ({ method }) => (method === "PUT" && ++puts > 1 ? { drop: true } : undefined);
  const cut = await push({ folder: merged, repo: REPO }, { hub: hub() }).catch((error: unknown) => error);
  expect(cut).toMatchObject({ code: "HUB_PUSH_FAILED" });
  expect(String((cut as { hint?: string }).hint)).toContain("the same command goes on from there");
  expect([...server.files.keys()]).toEqual(["model-00001-of-00002.safetensors"]);

  server.trouble = () => undefined;
  const pushed = await push({ folder: merged, repo: REPO }, { hub: hub() });
  expect(pushed.unchanged).toEqual(["model-00001-of-00002.safetensors"]);
  expect([...server.files.keys()].sort()).toEqual([
    "README.md",
    "config.json",
    "model-00001-of-00002.safetensors",
    "model-00002-of-00002.safetensors",
  ]);
  expect(server.files.get("model-00002-of-00002.safetensors")!.equals(shard(2))).toBe(true);
  expect(text("README.md")).toContain("library_name: transformers");
  await rm(merged, { recursive: true });
});

hubTest("what cannot be pushed is told, without the token", async () => {
  const refused = (request: object, parts: Partial<HubEnvironment> = {}): Promise<unknown> =>
    push({ folder: run, repo: REPO, ...request }, { hub: hub(parts) }).catch((error: unknown) => error);
  expect(await refused({ repo: "judge" })).toMatchObject({ code: "PUSH_REPO" });
  expect(await refused({ folder: folder.path })).toMatchObject({ code: "PUSH_FOLDER" });
  expect(await refused({}, { token: undefined })).toMatchObject({ code: "HUB_TOKEN_MISSING" });
  expect(await refused({}, { offline: true })).toMatchObject({ code: "HUB_OFFLINE" });
  server.trouble = () => ({ status: 403, json: { error: `token ${TOKEN} may not write` } });
  const denied = await refused({});
  expect(denied).toMatchObject({ code: "HUB_PUSH_FAILED" });
  expect(String(denied)).not.toContain(TOKEN);
  expect(String((denied as { hint?: string }).hint)).toContain("HF_TOKEN");
});
