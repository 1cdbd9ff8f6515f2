import { describe, expect, test } from "bun:test";
import { existsSync, readdirSync, readFileSync, truncateSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import {
  openDatasetTokenizer,
  type TokenizedDataset,
  type TokenizerOptions,
} from "../../runtime/data/dataset-tokenizer.ts";
import { loadDataset, type Dataset } from "../../runtime/data/dataset.ts";
import { permutation } from "../../runtime/data/sampler.ts";
import { readTokenCache, tokenCacheFile, writeTokenCache } from "../../runtime/data/token-cache.ts";
import { loadTokenizer, type Tokenizer } from "../../runtime/data/tokenizer.ts";
import { tinyCheckpoint } from "../support/reference.ts";
import { rejection, tempDir, tempFile } from "./files.ts";

const textOf = (i: number) => `row ${i} ${"word ".repeat(i % 13)}end`;

function texts(count: number, text: (i: number) => string = textOf): Promise<Dataset> {
  const lines = Array.from({ length: count }, (_, i) => JSON.stringify({ text: text(i), label: i % 3 }));
  return loadDataset(tempFile("rows.jsonl", lines.join("\n")));
}

/** A tokenizer of one id for each character, which counts its calls and can be held up. */
function fakeTokenizer(gate: (texts: readonly string[]) => Promise<void> = async () => {}) {
  const calls: string[][] = [];
  const tokenizer: Tokenizer = {
    bosId: undefined,
    eosId: undefined,
    vocabSize: 65536,
    digest: "fake",
    specials: () => ({ before: [], after: [] }),
    encodeBatch: async (batch) => {
      calls.push([...batch]);
      await gate(batch);
      const lengths = Uint32Array.from(batch, (text) => text.length);
      const ids = Uint32Array.from(Buffer.from(batch.join(""), "latin1"));
      return { ids, lengths, fullLengths: lengths.slice() };
    },
  };
  return { tokenizer, calls };
}

const open = (options: TokenizerOptions) =>
  openDatasetTokenizer({
    cacheDir: tempDir(),
    onWarning: (m) => {
      throw new Error(m);
    },
    ...options,
  });

const allIds = async (tokenized: TokenizedDataset) =>
  (await tokenized.ready(tokenized.dataset.rows.map((_, i) => i))).map((ids) => [...ids]);

/** Ids straight from the library, each text by itself. */
async function expectedIds(dataset: Dataset, maxLength: number): Promise<number[][]> {
  const tokenizer = await loadTokenizer(tinyCheckpoint);
  const rows: number[][] = [];
  for (const row of dataset.rows) {
    if (row.kind === "text") rows.push([...(await tokenizer.encodeBatch([row.text], { maxLength })).ids]);
  }
  return rows;
}

describe("ids", () => {
  test.each([
    ["inline", 20],
    ["in a worker", 600],
  ])("%s, with any order, are those of the library", async (_, count) => {
    const dataset = await texts(count);
    const datasetTokenizer = open({ dir: tinyCheckpoint, maxLength: 12, vocabSize: 4096 });
    const tokenized = await datasetTokenizer.tokenize(dataset, permutation(count, 1, 0));
    const expected = await expectedIds(dataset, 12);
    expect(await allIds(tokenized)).toEqual(expected);
    const { lengths, fullLengths } = await tokenized.done();
    expect([...lengths]).toEqual(expected.map(({ length }) => length));
    expect(fullLengths.some((full, i) => full > lengths[i]!)).toBe(true);
    expect(Math.max(...lengths)).toBe(12);
    await datasetTokenizer.close();
  });

  test("two datasets share one worker", async () => {
    const datasetTokenizer = open({ dir: tinyCheckpoint });
    const [first, second] = [
      await datasetTokenizer.tokenize(await texts(300)),
      await datasetTokenizer.tokenize(await texts(10, (i) => `other ${i}`)),
    ];
    expect((await second.done()).lengths.length).toBe(10);
    expect((await first.done()).lengths.length).toBe(300);
    expect((await second.get(3)).at(-1)).toBe(1);
    await datasetTokenizer.close();
  });

  test("rows of input_ids need no tokenizer and are taken as they are", async () => {
    const dataset = await loadDataset(tempFile("rows.jsonl", '{"input_ids":[5,6,7]}\n{"input_ids":[8]}'));
    const tokenized = await open({ maxLength: 3, vocabSize: 9 }).tokenize(dataset);
    expect(await allIds(tokenized)).toEqual([[5, 6, 7], [8]]);
    expect(await rejection(open({ maxLength: 2 }).tokenize(dataset))).toContain(
      "rows.jsonl:1: the row has 3 input_ids, more than maxLength 2",
    );
    expect(await rejection(open({ vocabSize: 8 }).tokenize(dataset))).toContain("rows.jsonl:2: token id 8 is outside");
  });

  test("rows are there before the last is tokenized, first those needed first", async () => {
    const gates: PromiseWithResolvers<void>[] = [];
    const { tokenizer, calls } = fakeTokenizer(() => {
      const gate = Promise.withResolvers<void>();
      gates.push(gate);
      return gate.promise;
    });
    const dataset = await texts(1000);
    const order = permutation(1000, 3, 0);
    const datasetTokenizer = open({ tokenizer });
    const tokenized = await datasetTokenizer.tokenize(dataset, order);
    await Bun.sleep(0);
    expect(calls[0]!.slice(0, 32)).toEqual(Array.from(order.slice(0, 32), textOf));
    gates[0]!.resolve();
    const first = await tokenized.ready(order.slice(0, 32));
    expect(first.map((ids) => ids.length)).toEqual(Array.from(order.slice(0, 32), (i) => textOf(i).length));
    let done = false;
    const all = tokenized.done().then(() => (done = true));
    await Bun.sleep(5);
    expect([done, calls.length]).toEqual([false, 3]);
    for (let i = 1; i < 8; i++) {
      gates[i]!.resolve();
      await Bun.sleep(0);
    }
    await all;
    await datasetTokenizer.close();
  });

  test("a row outside, and an order that is none", async () => {
    const datasetTokenizer = open({ tokenizer: fakeTokenizer().tokenizer });
    const tokenized = await datasetTokenizer.tokenize(await texts(3));
    expect(await rejection(tokenized.get(3))).toContain("row 3 is outside 0..2");
    expect(await rejection(datasetTokenizer.tokenize(await texts(3), [0, 1, 1]))).toContain("order");
    await datasetTokenizer.close();
  });
});

describe("errors", () => {
  test("a row that cannot be tokenized is named", async () => {
    const { tokenizer } = fakeTokenizer(async (batch) => {
      if (batch.includes("row 130 end")) throw new Error("no such word");
    });
    const datasetTokenizer = open({ tokenizer });
    const tokenized = await datasetTokenizer.tokenize(await texts(300));
    expect(await rejection(tokenized.get(130))).toContain("rows.jsonl:131: the row cannot be tokenized: no such word");
    expect(await rejection(tokenized.done())).toContain("no such word");
    await datasetTokenizer.close();
  });

  test("a worker's error reaches whoever waits, with its kind", async () => {
    const dir = tempDir();
    writeFileSync(join(dir, "tokenizer.json"), '{"model": 1}');
    const datasetTokenizer = open({ dir });
    const tokenized = await datasetTokenizer.tokenize(await texts(300));
    const error = await tokenized.get(0).catch((caught: unknown) => caught);
    expect(error).toMatchObject({ name: "ModelError", code: "TOKENIZER_INVALID" });
    await datasetTokenizer.close();
    const options = await open({ dir: tinyCheckpoint, maxLength: 1 }).tokenize(await texts(300));
    expect(await options.done().catch((caught: unknown) => caught)).toMatchObject({ name: "ConfigError" });
  });

  test("text without a tokenizer, empty rows, foreign vocabularies", async () => {
    expect(await rejection(open({}).tokenize(await texts(2)))).toContain(
      "rows.jsonl:1 holds text, but no tokenizer is given",
    );
    expect(await rejection(open({ dir: tempDir() }).tokenize(await texts(2)))).toContain("no tokenizer found");
    const empty = await open({ dir: tinyCheckpoint, addBos: false, addEos: false }).tokenize(
      await texts(2, (i) => "a".slice(i)),
    );
    expect(await rejection(empty.done())).toContain("rows.jsonl:2: the row has no tokens");
    const foreign = await open({ dir: tinyCheckpoint, vocabSize: 300 }).tokenize(await texts(2));
    expect(await rejection(foreign.done())).toContain("outside the model's vocabulary of 300");
  });

  test("closing rejects what is not done, at once, and nothing is cached", async () => {
    const cacheDir = tempDir();
    const datasetTokenizer = open({ dir: tinyCheckpoint, cacheDir });
    const tokenized = await datasetTokenizer.tokenize(await texts(3000));
    await datasetTokenizer.close();
    expect(await rejection(tokenized.done())).toContain("closed before it was done");
    expect(existsSync(join(cacheDir, "tokens"))).toBe(false);
    expect(await rejection(datasetTokenizer.tokenize(await texts(1)))).toContain("closed");
  });
});

describe("cache", () => {
  const run = async (options: TokenizerOptions, dataset: Dataset) => {
    const fake = fakeTokenizer();
    const datasetTokenizer = open({ tokenizer: fake.tokenizer, ...options });
    const tokenized = await datasetTokenizer.tokenize(dataset);
    const ids = await allIds(tokenized);
    const lengths = await tokenized.done();
    await datasetTokenizer.close();
    return {
      ids,
      lengths,
      calls: fake.calls.length,
      fromCache: tokenized.fromCache,
      fingerprint: tokenized.fingerprint,
    };
  };
  const cacheFile = (cacheDir: string) => join(cacheDir, "tokens", readdirSync(join(cacheDir, "tokens"))[0]!);

  test("a second run gets equal ids without tokenizing", async () => {
    const cacheDir = tempDir();
    const [first, second] = [await run({ cacheDir }, await texts(300)), await run({ cacheDir }, await texts(300))];
    expect([first.calls, first.fromCache, second.calls, second.fromCache]).toEqual([3, false, 0, true]);
    expect(second.ids).toEqual(first.ids);
    expect(second.lengths).toEqual(first.lengths);
    expect(second.fingerprint).toBe(first.fingerprint);
  });

  test("other text, options or tokenizer are tokenized anew; other labels are not, but change the fingerprint", async () => {
    const cacheDir = tempDir();
    const base = await run({ cacheDir }, await texts(5));
    expect((await run({ cacheDir, maxLength: 500 }, await texts(5))).calls).toBe(1);
    expect((await run({ cacheDir, addEos: false }, await texts(5))).calls).toBe(1);
    expect((await run({ cacheDir }, await texts(5, (i) => `${textOf(i)}.`))).calls).toBe(1);
    const other = { ...fakeTokenizer().tokenizer, digest: "another" };
    expect((await run({ cacheDir, tokenizer: other }, await texts(5))).fromCache).toBe(false);
    const rows = (await texts(5)).rows.map((row) => ({ ...row, label: 0 }));
    const relabelled = await run({ cacheDir }, { files: [], rows });
    expect(relabelled.fromCache).toBe(true);
    expect(relabelled.fingerprint).not.toBe(base.fingerprint);
    expect((await run({ cacheDir, cache: false }, await texts(5))).fromCache).toBe(false);
  });

  test.each([
    [
      "a flipped bit",
      (file: string) => {
        const bytes = readFileSync(file);
        bytes[bytes.length - 60]! ^= 1;
        writeFileSync(file, bytes);
      },
    ],
    ["a cut", (file: string) => truncateSync(file, 200)],
    ["nothing", (file: string) => truncateSync(file, 0)],
    ["foreign bytes", (file: string) => writeFileSync(file, Buffer.alloc(5000, 7))],
  ])("%s in the file is noticed: a warning, the right ids, a whole file", async (_, damage) => {
    const cacheDir = tempDir();
    const first = await run({ cacheDir }, await texts(20));
    const whole = readFileSync(cacheFile(cacheDir));
    damage(cacheFile(cacheDir));
    const warnings: string[] = [];
    const second = await run({ cacheDir, onWarning: (message) => warnings.push(message) }, await texts(20));
    expect(second.calls).toBe(1);
    expect(second.ids).toEqual(first.ids);
    expect(warnings).toEqual([expect.stringContaining("damaged token cache")]);
    expect(readFileSync(cacheFile(cacheDir))).toEqual(whole);
  });

  test("another key's file under this key's name is no hit", async () => {
    const [cacheDir, rows] = [tempDir(), [Uint32Array.of(1)]];
    const [key, other] = ["a".repeat(64), "b".repeat(64)];
    await writeTokenCache(cacheDir, key, { rows, fullLengths: Uint32Array.of(1), cuts: Uint32Array.of(0) });
    writeFileSync(tokenCacheFile(cacheDir, other), readFileSync(tokenCacheFile(cacheDir, key)));
    expect(await readTokenCache(cacheDir, other, 1)).toEqual({ kind: "corrupt", reason: "it belongs to other data" });
    expect(await readTokenCache(cacheDir, key, 1)).toMatchObject({ kind: "hit", rows });
    expect(await readTokenCache(cacheDir, "c".repeat(64), 1)).toEqual({ kind: "miss" });
  });

  test("a cache that cannot be written is a warning, not the end", async () => {
    const warnings: string[] = [];
    const cacheDir = tempFile("a-file", "in the way");
    const { ids } = await run({ cacheDir, onWarning: (message) => warnings.push(message) }, await texts(3));
    expect(ids.length).toBe(3);
    expect(warnings).toEqual([expect.stringContaining("could not be written")]);
  });

  test("killed in the middle of writing, there is no file of that name, and the rest is cleared a day later", async () => {
    const [cacheDir, key] = [tempDir(), "d".repeat(64)];
    const script = `
      import { existsSync, readdirSync, statSync } from "node:fs";
      import { writeTokenCache } from ${JSON.stringify(join(import.meta.dir, "../../runtime/data/token-cache.ts"))};
      const folder = ${JSON.stringify(join(cacheDir, "tokens"))};
      const rows = Array.from({ length: 40 }, () => new Uint32Array(1 << 18));
      const last = rows[39];
      Object.defineProperty(rows, 39, { get: () => {
        const begun = existsSync(folder) && readdirSync(folder).some((name) => statSync(folder + "/" + name).size > 1e6);
        if (begun) process.kill(process.pid, "SIGKILL");
        return last;
      } });
      await writeTokenCache(${JSON.stringify(cacheDir)}, "${key}", { rows, fullLengths: new Uint32Array(40), cuts: new Uint32Array(40) });
    `;
    const child = Bun.spawn([process.execPath, "-e", script], { stdout: "inherit", stderr: "inherit" });
    await child.exited;
    expect(child.signalCode).toBe("SIGKILL");
    const folder = join(cacheDir, "tokens");
    const left = readdirSync(folder);
    expect(left).toEqual([expect.stringMatching(/\.tmp$/)]);
    expect(await readTokenCache(cacheDir, key, 40)).toEqual({ kind: "miss" });

    const whole = { rows: [Uint32Array.of(1, 2)], fullLengths: Uint32Array.of(2), cuts: Uint32Array.of(1) };
    await writeTokenCache(cacheDir, key, whole);
    expect(readdirSync(folder).length).toBe(2);
    utimesSync(join(folder, left[0]!), new Date(0), new Date(0));
    await writeTokenCache(cacheDir, key, whole);
    expect(readdirSync(folder)).toEqual([`${key}.bin`]);
  });
});
