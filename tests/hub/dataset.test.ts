/** Datasets of the hub by name: which files make a config and a split, and where they end up. */
import { afterAll, describe, expect, test } from "bun:test";
import { existsSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parquetWriteBuffer } from "hyparquet-writer";
import { loadDataset } from "../../runtime/data/dataset.ts";
import { splitOf } from "../../runtime/data/sources/splits.ts";
import { type HubEnvironment, resolveDataset } from "../../runtime/hub/index.ts";
import { rejection } from "../data/files.ts";
import { COMMIT, startHub } from "./server.ts";

const root = mkdtempSync(join(tmpdir(), "qlora-hub-data-"));
afterAll(() => rmSync(root, { recursive: true, force: true }));

const ID = "org/prefs";
const text = (name: string): Uint8Array => Buffer.from(`text,label\n${name},0\n`);
const parquet = (name: string): Uint8Array =>
  new Uint8Array(
    parquetWriteBuffer({
      columnData: [
        { name: "text", data: [name], type: "STRING" },
        { name: "label", data: [0], type: "INT32" },
      ],
    }),
  );
const filesOf = (...names: readonly string[]): Map<string, Uint8Array> =>
  new Map(names.map((name) => [name, name.endsWith(".parquet") ? parquet(name) : text(name)]));
const rules = { isRows: (name: string) => /\.(csv|parquet)$/.test(name), splitOf, defaultSplit: undefined };

const hubOf = (url: string): HubEnvironment => ({
  endpoint: url,
  token: undefined,
  cacheDir: mkdtempSync(join(root, "cache-")),
  offline: false,
  answerTimeout: 2000,
  stallTimeout: 2000,
  retryDelay: 1,
});

/** The names of the files that `name` means in a repository. */
async function chosen(files: Map<string, Uint8Array>, name: string, defaultSplit?: string): Promise<string[]> {
  await using server = await startHub(ID, files, "datasets");
  const found = await resolveDataset(name, { ...rules, defaultSplit }, hubOf(server.url));
  return found.map((file) => file.name.replace(`hf://${ID}/`, ""));
}

const CARD = `---
license: mit
configs:
- config_name: chat
  data_files:
  - split: train
    path: chat/part-*.parquet
  - split: test_prefs
    path: [chat/held.parquet]
- config_name: rest
  default: true
  data_dir: rest
---
# Card
`;

describe("which files", () => {
  const plain = filesOf(
    "data/train-00001-of-00002.parquet",
    "data/train-00000-of-00002.parquet",
    "data/test-00000-of-00001.parquet",
    "img/a.png",
  );
  test("by names: splits, the only one, the default, a file by its path", async () => {
    const train = ["data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet"];
    expect(await chosen(plain, `hf://${ID}:train`)).toEqual(train);
    expect(await chosen(plain, `hf://datasets/${ID}@v1:train`)).toEqual(train);
    expect(await chosen(plain, `hf://${ID}`, "train")).toEqual(train);
    expect(await chosen(plain, `hf://${ID}/data/test-00000-of-00001.parquet`)).toEqual([
      "data/test-00000-of-00001.parquet",
    ]);
    expect(await chosen(filesOf("rows.csv"), `hf://${ID}`)).toEqual(["rows.csv"]);
    expect(await chosen(filesOf("en/train.csv", "de/train.csv", "de/dev.csv"), `hf://${ID}/de:validation`)).toEqual([
      "de/dev.csv",
    ]);
  });

  test("by the card's configs", async () => {
    const files = filesOf(
      "chat/part-0.parquet",
      "chat/part-1.parquet",
      "chat/held.parquet",
      "rest/train.csv",
      "rest/test.csv",
    );
    files.set("README.md", Buffer.from(CARD));
    expect(await chosen(files, `hf://${ID}/chat:train`)).toEqual(["chat/part-0.parquet", "chat/part-1.parquet"]);
    expect(await chosen(files, `hf://${ID}/chat:test_prefs`)).toEqual(["chat/held.parquet"]);
    expect(await chosen(files, `hf://${ID}:test`)).toEqual(["rest/test.csv"]);
    expect(await rejection(chosen(files, `hf://${ID}/news:train`))).toContain(
      "the dataset has no config news, but chat, rest",
    );
    files.set("README.md", Buffer.from("---\nconfigs: [\n---\n"));
    expect(await rejection(chosen(files, `hf://${ID}:train`))).toContain("the head of its README.md is no YAML");
  });

  test("what there is is told where it is not clear", async () => {
    expect(await rejection(chosen(plain, `hf://${ID}`))).toContain("the dataset has the splits train, test; name one");
    expect(await rejection(chosen(plain, `hf://${ID}:dev`))).toContain("the dataset has no split dev, but train, test");
    expect(await rejection(chosen(plain, `hf://${ID}/xx:train`))).toContain(
      "the dataset has no config xx; its folders are data",
    );
    expect(await rejection(chosen(filesOf("a.png"), `hf://${ID}`))).toContain("the dataset has no files of rows");
    expect(await rejection(chosen(plain, "hf://prefs"))).toContain(
      'got "hf://prefs", expected hf://org/name[@revision][/config][:split]',
    );
    expect(await rejection(chosen(plain, "hf://org/other"))).toContain("knows no dataset org/other, or it is private");
    expect(await rejection(chosen(plain, `hf://${ID}@v9:train`))).toContain('has no revision "v9"');
    const climbing = new Map([...plain, ["../train.csv", text("x")]]);
    expect(await chosen(climbing, `hf://${ID}:test`)).toEqual(["data/test-00000-of-00001.parquet"]);
  });
});

describe("the cache", () => {
  test("is huggingface_hub's: only what is asked for, once, checked by its hash, and used offline", async () => {
    await using server = await startHub(ID, filesOf("train.parquet", "test.parquet"), "datasets");
    const hub = hubOf(server.url);
    const [file] = await resolveDataset(`hf://${ID}:train`, rules, hub);
    const snapshot = join(hub.cacheDir, "datasets--org--prefs", "snapshots", COMMIT);
    expect(file).toEqual({ path: join(snapshot, "train.parquet"), name: `hf://${ID}/train.parquet` });
    expect(readdirSync(snapshot)).toEqual(["train.parquet"]);
    const sent = server.bytesSent();
    expect(await resolveDataset(`hf://${ID}:train`, rules, hub)).toEqual([file!]);
    expect(server.bytesSent()).toBe(sent);
    expect(await resolveDataset(`hf://${ID}:train`, rules, { ...hub, offline: true })).toEqual([file!]);
    expect(await rejection(resolveDataset("hf://org/never", rules, { ...hub, offline: true }))).toContain(
      "is not in the cache",
    );
    server.misbehaviour.corrupt = true;
    expect(await rejection(resolveDataset(`hf://${ID}:test`, rules, hub))).toContain("arrived damaged");
    expect(existsSync(join(snapshot, "test.parquet"))).toBe(false);
  });

  test("rows are known by the dataset's name", async () => {
    await using server = await startHub(ID, filesOf("train-0.parquet", "train-1.parquet"), "datasets");
    const saved = { ...process.env };
    Object.assign(process.env, {
      HF_ENDPOINT: server.url,
      HF_HUB_CACHE: mkdtempSync(join(root, "cache-")),
      HF_TOKEN: "",
      HF_HUB_OFFLINE: "",
    });
    try {
      const { rows, files } = await loadDataset(`hf://${ID}:train`);
      expect(files).toEqual([`hf://${ID}:train`]);
      expect(rows.map(({ file, line, kind }) => [file, line, kind])).toEqual([
        [`hf://${ID}/train-0.parquet`, 1, "text"],
        [`hf://${ID}/train-1.parquet`, 1, "text"],
      ]);
    } finally {
      for (const name of ["HF_ENDPOINT", "HF_HUB_CACHE", "HF_TOKEN", "HF_HUB_OFFLINE"]) {
        if (saved[name] === undefined) delete process.env[name];
        else process.env[name] = saved[name];
      }
    }
  });
});
