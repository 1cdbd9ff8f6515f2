/**
 * Times the start of a run on the competition's size, once tokenized: reading the CSV, and finding its ids in the cache.
 * usage: bun bench/token-cache.ts [rows]
 * Rows are random words of about 630 tokens; ids are made up, since a hit does not look at what they are.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openDatasetTokenizer } from "../runtime/data/dataset-tokenizer.ts";
import { loadDataset } from "../runtime/data/dataset.ts";
import type { Tokenizer } from "../runtime/data/tokenizer.ts";
import { writeFileAtomic } from "../runtime/files/files.ts";

const ROWS = Number(process.argv[2] ?? 80_000);
const CHARACTERS_PER_TOKEN = 4.3;
const WORDS = "the answer explains how a model compares two replies and says “why” one of them reads better".split(" ");

let state = 1;
const next = (limit: number): number => {
  state = (Math.imul(state, 1_103_515_245) + 12_345) & 0x7fffffff;
  return state % limit;
};
const cell = (words: number): string => {
  const text = Array.from({ length: words }, () => WORDS[next(WORDS.length)]).join(" ");
  return `"${JSON.stringify([text]).replaceAll('"', '""')}"`;
};

async function* csv(): AsyncGenerator<Uint8Array> {
  yield Buffer.from("id,prompt,response_a,response_b,winner_model_a,winner_model_b,winner_tie\n");
  for (let first = 0; first < ROWS; first += 1000) {
    const lines = Array.from({ length: Math.min(1000, ROWS - first) }, (_, i) => {
      const answers = [cell(60 + next(60)), cell(120 + next(180)), cell(120 + next(180))];
      return `${first + i},${answers.join(",")},1,0,0\n`;
    });
    yield Buffer.from(lines.join(""));
  }
}

const tokenizer: Tokenizer = {
  bosId: 2,
  eosId: 1,
  vocabSize: 256_000,
  digest: "bench",
  specials: () => ({ before: [], after: [] }),
  encodeBatch: async (texts) => {
    const lengths = Uint32Array.from(texts, (text) => Math.min(1024, Math.ceil(text.length / CHARACTERS_PER_TOKEN)));
    const ids = new Uint32Array(lengths.reduce((sum, length) => sum + length, 0)).fill(1000);
    return { ids, lengths, fullLengths: lengths.slice() };
  },
};

const folder = await mkdtemp(join(tmpdir(), "qlora-bench-"));
try {
  const file = join(folder, "arena.csv");
  await writeFileAtomic(file, csv());
  const timed = async <T>(what: string, run: () => T | Promise<T>): Promise<T> => {
    const begun = performance.now();
    const result = await run();
    console.log(`${what.padEnd(28)}${((performance.now() - begun) / 1000).toFixed(2)} s`);
    return result;
  };
  const tokenize = async (): Promise<Uint32Array> => {
    const datasetTokenizer = openDatasetTokenizer({ tokenizer, vocabSize: 256_000, maxLength: 1024, cacheDir: folder });
    const { lengths } = await (await datasetTokenizer.tokenize(dataset)).done();
    await datasetTokenizer.close();
    return lengths;
  };
  console.log(`${ROWS} rows, ${(Bun.file(file).size / 1e6).toFixed(0)} MB`);
  const dataset = await timed("reading the CSV", async () => loadDataset(file));
  const lengths = await tokenize();
  console.log(`${(lengths.reduce((sum, length) => sum + length, 0) / ROWS).toFixed(0)} tokens a row`);
  for (let round = 0; round < 3; round++) await timed("hit", tokenize);
} finally {
  await rm(folder, { recursive: true });
}
