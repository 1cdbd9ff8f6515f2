import { describe, expect, test } from "bun:test";
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { QloraError } from "../../core/errors.ts";
import { tinyCheckpoint } from "../support/reference.ts";
import { until } from "../support/until.ts";
import {
  all,
  blob,
  failure,
  files,
  half,
  hub,
  hubClient,
  hubTest,
  ID,
  model,
  resolve,
  serve,
  server,
  weights,
  useHub,
} from "./hub-model.ts";
import { COMMIT, gitSha1, sha256 } from "./server.ts";

useHub();

describe("a model by id", () => {
  test("a folder is used as it is", async () => {
    expect(await resolve({}, {}, tinyCheckpoint)).toEqual({ directory: tinyCheckpoint, sha: undefined });
    expect(server.requests).toEqual([]);
    expect(await failure(resolve({ revision: "main" }, {}, tinyCheckpoint))).toMatchObject({
      code: "REVISION_OF_FOLDER",
    });
    expect(await failure(resolve({}, {}, "./nowhere"))).toMatchObject({ code: "CHECKPOINT_NOT_FOUND" });
  });

  hubTest("only the files needed, in huggingface_hub's layout", async () => {
    const progress: [number, number][] = [];
    const { directory, sha } = await resolve({ onProgress: (done, total) => progress.push([done, total]) });
    expect(sha).toBe(COMMIT);
    expect(directory).toBe(join(model, "snapshots", COMMIT));
    expect(readdirSync(directory).sort()).toEqual([...files.keys()].sort());
    for (const [name, content] of files) {
      expect(readFileSync(join(directory, name)).equals(content)).toBe(true);
      const hash = name === "model.safetensors" || name === "tokenizer.json" ? sha256(content) : gitSha1(content);
      expect(readlinkSync(join(directory, name))).toBe(`../../blobs/${hash}`);
    }
    expect(readFileSync(join(model, "refs", "main"), "utf8")).toBe(COMMIT);
    expect(readdirSync(join(model, "blobs")).filter((name) => name.includes("incomplete"))).toEqual([]);
    expect(server.bytesSent()).toBe(all);
    expect(progress.at(-1)).toEqual([all, all]);
    expect(progress.every(([done], i) => i === 0 || done >= progress[i - 1]![0])).toBe(true);
  });

  hubTest("shards are those that the index lists, and no others", async () => {
    const index = Buffer.from(
      JSON.stringify({ weight_map: { a: "model-1.safetensors", b: "model-2.safetensors", c: "model-1.safetensors" } }),
    );
    await serve(
      new Map([
        ["config.json", files.get("config.json")!],
        ["model.safetensors.index.json", index],
        ["model-1.safetensors", Buffer.from("one")],
        ["model-2.safetensors", Buffer.from("two")],
        ["consolidated.safetensors", Buffer.from("no")],
      ]),
    );
    const { directory } = await resolve({}, { endpoint: server.url });
    expect(readdirSync(directory).sort()).toEqual([
      "config.json",
      "model-1.safetensors",
      "model-2.safetensors",
      "model.safetensors.index.json",
    ]);
  });

  hubTest("config alone fetches config.json alone", async () => {
    const { directory } = await resolve({ part: "config" });
    expect(readdirSync(directory)).toEqual(["config.json"]);
    expect(await failure(resolve({ offline: true }))).toMatchObject({
      code: "HUB_OFFLINE",
      message: expect.stringContaining("model.safetensors is missing"),
    });
  });

  hubTest("a second time costs one request; a commit that is cached costs none; offline neither", async () => {
    const first = await resolve();
    server.requests.length = 0;
    expect(await resolve()).toEqual(first);
    expect(server.requests.map(({ path }) => path)).toEqual([`/api/models/${ID}/revision/main`]);
    await server.stop();
    server.requests.length = 0;
    expect(await resolve({ revision: COMMIT })).toMatchObject(first);
    expect(await resolve({ offline: true })).toMatchObject(first);
    expect(await resolve({}, { offline: true })).toMatchObject(first);
    expect(server.requests).toEqual([]);
  });

  hubTest("a branch with slashes; a revision that is none, or no name at all", async () => {
    expect(await resolve({ revision: "refs/pr/1" })).toMatchObject({ sha: COMMIT });
    expect(readFileSync(join(model, "refs/refs/pr/1"), "utf8")).toBe(COMMIT);
    expect(await failure(resolve({ revision: "v9" }))).toMatchObject({
      code: "HUB_REVISION_NOT_FOUND",
      message: expect.stringContaining('"v9"'),
    });
    expect(await failure(resolve({ revision: "../../etc" }))).toMatchObject({ code: "REVISION_INVALID" });
  });
});

describe("what was cut goes on", () => {
  hubTest("cut at half by the server: resumed by range, every byte sent once", async () => {
    server.misbehaviour.cuts = [800_000];
    const { directory } = await resolve();
    expect(readFileSync(join(directory, "model.safetensors")).equals(weights)).toBe(true);
    expect(server.bytesSent()).toBe(all);
    const ranges = server.requests
      .filter(({ host, path }) => host === "cdn" && path === "/model.safetensors")
      .map(({ range }) => range);
    expect(ranges).toEqual([undefined, "bytes=800000-"]);
  });

  hubTest("cut for good: nothing looks whole, and the next run goes on from the half", async () => {
    server.misbehaviour.cuts = [600_000, 0, 0, 0, 0, 0]; // five times without a byte between them end it
    const error = await failure(resolve());
    expect(error.code).toBe("HUB_CONNECTION_CUT");
    expect(error.message).toMatch(/the connection was cut at 600000 of 1616208 bytes of model\.safetensors/);
    expect(existsSync(blob())).toBe(false);
    expect(existsSync(join(model, "snapshots", COMMIT, "model.safetensors"))).toBe(false);
    expect(await failure(resolve({ offline: true }))).toMatchObject({ code: "HUB_OFFLINE" });
    expect(readFileSync(half()).equals(weights.subarray(0, 600_000))).toBe(true);

    const before = server.bytesSent();
    await resolve();
    expect(server.bytesSent() - before).toBe(weights.length - 600_000);
    expect(readFileSync(blob()).equals(weights)).toBe(true);
  });

  hubTest("a half that another program left is used; a damaged one is found out and fetched anew", async () => {
    mkdirSync(join(model, "blobs"), { recursive: true });
    writeFileSync(half(), weights.subarray(0, 1_000_000));
    await resolve();
    expect(server.bytesSent()).toBe(all - 1_000_000);
    rmSync(blob());
    rmSync(join(model, "snapshots"), { recursive: true });
    writeFileSync(half(), new Uint8Array(1_000_000));
    await resolve();
    expect(readFileSync(blob()).equals(weights)).toBe(true);
  });

  hubTest("a server that knows no ranges starts again", async () => {
    server.misbehaviour.cuts = [800_000];
    server.misbehaviour.ignoreRange = true;
    const progress: number[] = [];
    await resolve({ onProgress: (done) => progress.push(done) });
    expect(readFileSync(blob()).equals(weights)).toBe(true);
    expect(server.bytesSent()).toBe(all + 800_000);
    expect(progress.at(-1)).toBe(all);
  });

  hubTest("a busy server is asked again; one that stays busy is said to be out of reach", async () => {
    server.misbehaviour.busy = 2;
    await resolve({ part: "config" });
    server.misbehaviour.busy = 99;
    expect(await failure(resolve())).toMatchObject({
      code: "HUB_UNREACHABLE",
      message: expect.stringContaining("status 503"),
    });
  });

  hubTest("a wrong hash is an error, and its bytes are gone", async () => {
    server.misbehaviour.corrupt = true;
    expect(await failure(resolve({ part: "config" }))).toMatchObject({
      code: "HUB_HASH_MISMATCH",
      message: expect.stringContaining("config.json"),
    });
    expect(readdirSync(join(model, "blobs"))).toEqual([]);
    expect(await failure(resolve({}, { endpoint: `${server.url}/` }))).toBeInstanceOf(QloraError);
  });

  hubTest("a server without hashes is refused", async () => {
    server.misbehaviour.hideHashes = true;
    expect(await failure(resolve())).toMatchObject({ code: "HUB_NO_HASH" });
  });

  hubTest("aborted: one sentence, the half is kept", async () => {
    const stop = new AbortController();
    server.misbehaviour.stallAfter = 500_000;
    const onProgress = (): void => void (existsSync(half()) && statSync(half()).size >= 500_000 && stop.abort());
    expect(await failure(resolve({ signal: stop.signal, onProgress }))).toMatchObject({ code: "INTERRUPTED" });
    expect(readFileSync(half()).length).toBe(500_000);
  });

  test.skipIf(!hubClient || !existsSync("/dev/full"))("a full disk is a sentence", async () => {
    mkdirSync(join(model, "blobs"), { recursive: true });
    symlinkSync("/dev/full", half()); // every write to it fails as on a full disk
    expect(await failure(resolve())).toMatchObject({ code: "DISK_FULL" });
    expect(existsSync(join(model, "snapshots", COMMIT, "model.safetensors"))).toBe(false);
  });

  hubTest("a killed process leaves nothing that looks whole", async () => {
    server.misbehaviour.stallAfter = 700_000;
    const script = join(import.meta.dir, "fixtures", "download.ts");
    const child = Bun.spawn([process.execPath, script, ID], {
      env: { ...process.env, HF_ENDPOINT: server.url, HF_HUB_CACHE: hub.cacheDir },
    });
    await until("700,000 bytes are there", () => {
      expect(child.exitCode, "the download ended before it could be killed").toBeNull();
      return existsSync(half()) && statSync(half()).size >= 700_000;
    });
    child.kill("SIGKILL");
    await child.exited;
    expect(existsSync(blob())).toBe(false);
    expect(await failure(resolve({ offline: true }))).toMatchObject({ code: "HUB_OFFLINE" });
    delete server.misbehaviour.stallAfter;
    await resolve();
    const last = server.requests.findLast(({ host, path }) => host === "cdn" && path === "/model.safetensors");
    expect(last!.range).toBe("bytes=700000-");
    expect(readFileSync(blob()).equals(weights)).toBe(true);
  });

  hubTest(
    "three at once, in two processes: one fetches, the others wait, all end with the same whole file",
    async () => {
      server.misbehaviour.stallAfter = 300_000; // until all three have asked
      const script = join(import.meta.dir, "fixtures", "download.ts");
      const env = { ...process.env, HF_ENDPOINT: server.url, HF_HUB_CACHE: hub.cacheDir, HF_HUB_DOWNLOAD_TIMEOUT: "3" };
      const child = Bun.spawn([process.execPath, script, ID], { env });
      const asked = (): number =>
        server.requests.filter(({ method, path }) => method === "HEAD" && path.endsWith("/model.safetensors")).length;
      const untilAsked = (count: number): Promise<void> =>
        until(`${count} have asked`, () => {
          expect(child.exitCode ?? 0, "how the other process ended").toBe(0);
          return asked() >= count || existsSync(blob());
        });
      await untilAsked(1);
      const own = Promise.all([1, 2].map(() => resolve({}, { stallTimeout: 3000 })));
      await untilAsked(3);
      delete server.misbehaviour.stallAfter;
      expect(await child.exited).toBe(0);
      for (const { directory } of await own) {
        expect(readFileSync(join(directory, "model.safetensors")).equals(weights)).toBe(true);
      }
      const starts = server.requests.filter(
        ({ host, path, range }) => host === "cdn" && path === "/model.safetensors" && range === undefined,
      );
      expect(starts).toHaveLength(1);
    },
  );
});
