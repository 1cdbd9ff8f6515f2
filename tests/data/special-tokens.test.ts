/** Which special tokens a tokenizer's files ask for, as transformers reads them. */
import { describe, expect, test } from "bun:test";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { openDatasetTokenizer } from "../../runtime/data/dataset-tokenizer.ts";
import { loadDataset } from "../../runtime/data/dataset.ts";
import { readSpecialRules } from "../../runtime/data/special-tokens.ts";
import { loadTokenizer } from "../../runtime/data/tokenizer.ts";
import { tinyCheckpoint } from "../support/reference.ts";
import { rejection, tempDir, tempFile } from "./files.ts";

type Files = Readonly<Record<string, unknown>>;

const tiny = JSON.parse(readFileSync(join(tinyCheckpoint, "tokenizer.json"), "utf8")) as Files;
const template = (before: readonly (readonly [string, number])[], after: readonly (readonly [string, number])[]) => ({
  type: "TemplateProcessing",
  single: [
    ...before.map(([id]) => ({ SpecialToken: { id, type_id: 0 } })),
    { Sequence: { id: "A", type_id: 0 } },
    ...after.map(([id]) => ({ SpecialToken: { id, type_id: 0 } })),
  ],
  pair: [{ Sequence: { id: "A", type_id: 0 } }, { Sequence: { id: "B", type_id: 1 } }],
  special_tokens: Object.fromEntries(
    [...before, ...after].map(([name, id]) => [name, { id: name, ids: [id], tokens: [name] }]),
  ),
});
const byteLevel = { type: "ByteLevel", add_prefix_space: true, trim_offsets: false, use_regex: true };
const bosFirst = template([["<bos>", 2]], []);
const names = { bos_token: "<bos>", eos_token: { content: "<eos>" } };
const ids = { bos_token_id: 2, eos_token_id: [1, 107] };

/** A folder with the tiny vocabulary, another post-processor and these files. */
function folder(postProcessor: unknown, files: Files): string {
  const dir = tempDir();
  writeFileSync(join(dir, "tokenizer.json"), JSON.stringify({ ...tiny, post_processor: postProcessor }));
  for (const [name, value] of Object.entries(files)) writeFileSync(join(dir, `${name}.json`), JSON.stringify(value));
  return dir;
}

const abc = async (dir: string, options = {}): Promise<number[]> => [
  ...(await (await loadTokenizer(dir)).encodeBatch(["abc"], options)).ids,
];
const content = await abc(tinyCheckpoint, { addBos: false, addEos: false });

describe("what stands around a text", () => {
  // Of each: the post-processor, the other files, and what the files put before and after a text.
  const cases: readonly (readonly [string, unknown, Files, readonly number[], readonly number[]])[] = [
    ["flags true", null, { tokenizer_config: { ...names, add_bos_token: true, add_eos_token: true } }, [2], [1]],
    ["flags false, against the post-processor", template([["<bos>", 2]], [["<eos>", 1]]), { tokenizer_config: { ...names, add_bos_token: false, add_eos_token: false } }, [], []],
    ["no flags: the post-processor", template([["<bos>", 2]], [["<eos>", 1]]), { tokenizer_config: names }, [2], [1]],
    ["tokenizer_config.json names no bos: the post-processor's id", bosFirst, { tokenizer_config: { eos_token: "<eos>" } }, [2], []],
    ["no tokenizer_config.json", bosFirst, { config: ids }, [2], []],
    ["nothing beside tokenizer.json", bosFirst, {}, [2], []],
    ["null for what is not set", bosFirst, { tokenizer_config: { bos_token: null, add_bos_token: null } }, [2], []],
    ["a flag alone, named by special_tokens_map.json", null, { tokenizer_config: { add_bos_token: true, add_eos_token: true }, special_tokens_map: names }, [2], [1]],
    ["a flag alone, named by config.json", null, { tokenizer_config: { add_bos_token: true }, config: ids }, [2], []],
    ["an id in config.json adds nothing by itself (Qwen)", byteLevel, { config: ids }, [], []],
    ["a flag without any such token adds nothing", null, { tokenizer_config: { add_bos_token: true, add_eos_token: true } }, [], []],
    ["Llama 3: a sequence of processors", { type: "Sequence", processors: [byteLevel, bosFirst] }, { tokenizer_config: names }, [2], []],
    ["RobertaProcessing", { type: "RobertaProcessing", sep: ["<eos>", 1], cls: ["<bos>", 2], trim_offsets: true, add_prefix_space: false }, {}, [2], [1]],
    ["BertProcessing", { type: "BertProcessing", sep: ["<eos>", 1], cls: ["<bos>", 2] }, {}, [2], [1]],
    ["two tokens in front", template([["<start_of_turn>", 4], ["<bos>", 2]], []), { tokenizer_config: { eos_token: "<eos>" } }, [4, 2], []],
  ]; // prettier-ignore
  test.each(cases)("%s", async (_, postProcessor, files, before, after) => {
    const dir = folder(postProcessor, files);
    const tokenizer = await loadTokenizer(dir);
    // As the files say; training adds an eos wherever there is one.
    const { bos, eos } = readSpecialRules(dir);
    expect(await abc(dir, { addBos: (bos.added ?? []).length > 0, addEos: (eos.added ?? []).length > 0 })).toEqual([
      ...before,
      ...content,
      ...after,
    ]);
    expect(tokenizer.specials({ addEos: false }).before).toEqual([...before]);
  });

  test("eos is added in training wherever a file names one; bos and eos can be asked for and denied", async () => {
    const files = { tokenizer_config: { ...names, add_bos_token: true, add_eos_token: false } };
    const dir = folder(bosFirst, files);
    expect(await abc(dir)).toEqual([2, ...content, 1]);
    expect(await abc(dir, { addBos: false, addEos: false })).toEqual(content);
    expect(await abc(folder(null, { special_tokens_map: names }))).toEqual([...content, 1]);
    expect(await abc(folder(null, { special_tokens_map: names }), { addBos: true })).toEqual([2, ...content, 1]);
    expect(await abc(folder(null, {}))).toEqual(content);
    expect(await rejection(abc(folder(null, {}), { addEos: true }))).toBe(
      "addEosToken is on, but the tokenizer has no such token",
    );
  });

  test("a text that starts with all of what is added is not given it twice", async () => {
    const two = folder(
      template(
        [
          ["<start_of_turn>", 4],
          ["<bos>", 2],
        ],
        [],
      ),
      {},
    );
    const batch = (text: string) => loadTokenizer(two).then((tokenizer) => tokenizer.encodeBatch([text]));
    expect([...(await batch("<start_of_turn><bos>abc")).ids]).toEqual([4, 2, ...content]);
    expect([...(await batch("<bos>abc")).ids]).toEqual([4, 2, 2, ...content]);
    expect([...(await batch("<start_of_turn><bos>abc")).fullLengths]).toEqual([2 + content.length]);
  });

  test("damaged files are one error that names file and key", async () => {
    const broken: readonly (readonly [Files, string])[] = [
      [{ tokenizer_config: [] }, "tokenizer_config.json: is not a JSON object"],
      [{ tokenizer_config: null }, "tokenizer_config.json: is not a JSON object"],
      [{ tokenizer_config: { add_bos_token: "yes" } }, 'add_bos_token: expected true or false, got "yes"'],
      [{ tokenizer_config: { eos_token: 7 } }, "eos_token: expected a token, got 7"],
      [{ special_tokens_map: { bos_token: {} } }, "bos_token: expected a token, got {}"],
      [{ config: 3 }, "config.json: is not a JSON object"],
    ];
    for (const [files, message] of broken) expect(await rejection(abc(folder(null, files)))).toContain(message);
    const nameless = { ...bosFirst, special_tokens: {} };
    expect(await rejection(abc(folder(nameless, {})))).toContain("tokenizer.json");
  });
});

test("ids kept on disk are those of these specials; what 0.1.0 put there too keeps its fingerprint", async () => {
  const data = await loadDataset(tempFile("rows.jsonl", '{"text":"abc","label":0}\n{"text":"abc","label":1}\n'));
  const cacheDir = tempDir();
  const run = async (dir: string, options: { addBos?: boolean; addEos?: boolean } = {}) => {
    const tokenized = await openDatasetTokenizer({ dir, cacheDir, ...options }).tokenize(data);
    await tokenized.done();
    return { ids: [...(await tokenized.get(0))], fingerprint: tokenized.fingerprint };
  };
  const usual = await run(tinyCheckpoint);
  expect(usual.ids).toEqual([2, ...content, 1]);
  expect(await run(tinyCheckpoint, { addBos: true, addEos: true })).toEqual(usual);
  const bare = await run(tinyCheckpoint, { addEos: false });
  expect(bare.ids).toEqual([2, ...content]);
  expect(bare.fingerprint).not.toBe(usual.fingerprint);
  // What 0.1.0 computed of these rows and these files.
  expect(usual.fingerprint).toBe("ec603a6bf1de41193d00e3ce4cdbaffff81ddf59122837e4e238ed7c99011311");
});
