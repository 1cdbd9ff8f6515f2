/** Every system call of a merge, a prediction and a download that changes the disk, failing in turn. */
import { afterAll, expect, test } from "bun:test";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { QloraError } from "../../core/errors.ts";
import { isPluginFactory } from "../../core/plugin/factory.ts";
import * as sdk from "../../index.ts";
import * as plugins from "../../plugins/index.ts";
import type { ResolveContext } from "../../runtime/config/resolve.ts";
import { openToWrite } from "../../runtime/files/disk.ts";
import { writeFileAtomic } from "../../runtime/files/files.ts";
import { resolveModel } from "../../runtime/hub/index.ts";
import { predictWithAdapter } from "../../sdk/inference.ts";
import { mergeAdapter } from "../../sdk/merge/index.ts";
import { startHub } from "../hub/server.ts";
import { runOver } from "../support/command-line.ts";
import { onMeta, metaConfig, metaGpus, metaModel, metaTrain } from "../support/meta-run.ts";
import { tinyCheckpoint } from "../support/reference.ts";
import { type Walked, walk } from "./walk.ts";

const totals: [string, Walked][] = [];
afterAll(() => {
  for (const [name, walked] of totals) console.log(`failpoints of a ${name}:`, JSON.stringify(walked));
});

const shipped = [metaModel, ...Object.values(plugins).filter((value) => isPluginFactory(value))];
const context = (): ResolveContext => ({ shipped, from: process.cwd() });

/** Every file below a folder with its sha256. */
async function contents(folder: string): Promise<[string, string][]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  const paths = entries.filter((entry) => !entry.isDirectory()).map((entry) => join(entry.parentPath, entry.name));
  const sums = paths.map(async (path) => {
    const sum = new Bun.CryptoHasher("sha256").update(await readFile(path)).digest("hex");
    return [path.slice(folder.length), sum] as [string, string];
  });
  return (await Promise.all(sums)).sort(([a], [b]) => (a < b ? -1 : 1));
}

/** Refuses what lies there and is neither nothing nor the whole. */
async function wholeOrNothing(folder: string, names: readonly string[]): Promise<void> {
  const there = (await readdir(folder).catch(() => [])).filter((name) => names.includes(name));
  if (there.length > 0 && there.length < names.length) throw new Error(`only ${there.join()} in ${folder}`);
}

async function mergeInto(folder: string, overwrite: boolean): Promise<void> {
  const request = { run: join(folder, "run"), outputDir: join(folder, "merged"), overwrite };
  await onMeta(metaGpus(), () => mergeAdapter({ ...request, rows: 0, maxShardSize: 2e6 }, context()));
}

test("a merge", async () => {
  const walked = await walk({
    name: "merge",
    async prepare(folder) {
      const model = plugins.gemma2({ checkpoint: tinyCheckpoint });
      const adapter = plugins.lora({ rank: 1, targetModules: ["q_proj"], layersToTransform: [3] });
      await metaTrain(await metaConfig(folder, { model, adapter, training: { maxSteps: 1, saveStrategy: "no" } }));
    },
    act: (folder) => mergeInto(folder, false),
    again: (folder) => mergeInto(folder, true),
    result: (folder) => contents(join(folder, "merged")),
    judge: (folder) =>
      wholeOrNothing(join(folder, "merged"), ["config.json", "tokenizer.json", "model.safetensors.index.json"]),
  });
  totals.push(["merge", walked]);
  expect(walked.points).toBeGreaterThan(20);
}, 240_000);

test("a prediction through the command line, with the tokens' cache", async () => {
  const services = {
    sdk: async () => ({
      ...sdk,
      predict: (request: sdk.PredictRequest, { onEvent }: sdk.EventOptions = {}) =>
        onMeta(metaGpus(), () => predictWithAdapter(request, context(), { onEvent })),
    }),
    plugins: async () => shipped,
  };
  const walked = await walk({
    name: "predict",
    async prepare(folder) {
      await metaTrain(await metaConfig(folder, { training: { maxSteps: 1, saveStrategy: "no" } }));
      await writeFileAtomic(join(folder, "rows.csv"), "id,text\na,kind words\nb,clear words\n");
    },
    async act(folder) {
      const at = (name: string): string => join(folder, name);
      const argv = ["predict", at("run"), at("rows.csv"), "--output", at("out.csv"), "--cache-dir", at("cache")];
      const { code, stderr } = await runOver(services, argv);
      if (code === 0) return;
      if (/^\s+at /m.test(stderr)) throw new Error(`a stack trace: ${stderr}`);
      throw new QloraError("TOLD", stderr);
    },
    result: (folder) => readFile(join(folder, "out.csv"), "utf8"),
    async judge(folder) {
      const text = await readFile(join(folder, "out.csv"), "utf8").catch(() => undefined);
      if (text !== undefined && text.split("\n").length !== 4) throw new Error(`half an output: ${text}`);
    },
  });
  totals.push(["prediction", walked]);
  expect(walked.points).toBeGreaterThan(5);
}, 240_000);

test("a download", async () => {
  const names = ["config.json", "tokenizer.json", "tokenizer_config.json"];
  const files = new Map<string, Uint8Array>([["model.safetensors", Buffer.alloc(3000, 7)]]);
  for (const name of names) files.set(name, await readFile(join(tinyCheckpoint, name)));
  await using hub = await startHub("tiny/model", files);
  const fetchInto = (folder: string) =>
    resolveModel(
      "tiny/model",
      {},
      {
        endpoint: hub.url,
        token: undefined,
        cacheDir: join(folder, "hub"),
        offline: false,
        answerTimeout: 5000,
        stallTimeout: 5000,
        retryDelay: 1,
      },
    );
  const walked = await walk({
    name: "download",
    prepare: async () => {},
    act: async (folder) => void (await fetchInto(folder)),
    async result(folder) {
      const { directory } = await fetchInto(folder);
      return contents(directory).then((found) => found.map(([path, sum]) => [path, sum]));
    },
    async judge(folder) {
      // Whatever has its name has its content.
      const blobs = join(folder, "hub", "models--tiny--model", "blobs");
      for (const name of await readdir(blobs).catch(() => [])) {
        if (name.endsWith(".incomplete")) continue;
        const content = await readFile(join(blobs, name));
        if (![...files.values()].some((file) => content.equals(file)))
          throw new Error(`${name} is not what it is called`);
      }
    },
  });
  totals.push(["download", walked]);
  expect(walked.points).toBeGreaterThan(20);
}, 240_000);

test("a file that is written in its place is seen", async () => {
  const inPlace = async (folder: string): Promise<void> => {
    await using file = await openToWrite(join(folder, "out"), "w");
    await file.write(Buffer.from("a whole sentence"));
  };
  const read = (folder: string): Promise<string> => readFile(join(folder, "out"), "utf8").catch(() => "");
  const walked = walk({
    name: "in place",
    prepare: async () => {},
    act: (folder) =>
      inPlace(folder).catch((cause: unknown) => Promise.reject(new QloraError("TOLD", "told", { cause }))),
    result: read,
    judge: async (folder) => {
      const text = await read(folder);
      if (text !== "" && text !== "a whole sentence") throw new Error(`half: ${text}`);
    },
  });
  expect(await walked.catch((error: unknown) => String(error))).toContain("left what is neither whole nor told");
});

test("an error that is not told as one is seen, and so is what another attempt does not mend", async () => {
  const act = (folder: string): Promise<void> => writeFileAtomic(join(folder, "out"), "text");
  const untold = walk({
    name: "untold",
    prepare: async () => {},
    act: (folder) => act(folder).catch(() => Promise.reject(new TypeError("undefined is not a function"))),
    result: async () => "",
  });
  expect(await untold.catch((error: unknown) => String(error))).toContain("error at open");
  let wrong = 0;
  const unmended = walk({ name: "unmended", prepare: async () => {}, act, result: async () => wrong++ > 0 });
  expect(await unmended.catch((error: unknown) => String(error))).toContain("the same command again");
});
