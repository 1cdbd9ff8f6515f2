/** The files of a tokenizer, one damaged at a time. */
import { afterAll } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { readSpecialRules } from "../../runtime/data/special-tokens.ts";
import { loadTokenizer, readTokenizerFiles } from "../../runtime/data/tokenizer.ts";
import { fuzz, type FuzzInput } from "./harness.ts";

/** A whole tokenizer of a few words, small enough to be loaded for each input. */
const tokenizer = {
  version: "1.0",
  truncation: null,
  padding: null,
  added_tokens: ["<pad>", "<eos>", "<bos>"].map((content, id) => ({
    id,
    content,
    single_word: false,
    lstrip: false,
    rstrip: false,
    normalized: false,
    special: true,
  })),
  normalizer: null,
  pre_tokenizer: { type: "Whitespace" },
  post_processor: {
    type: "TemplateProcessing",
    single: [{ SpecialToken: { id: "<bos>", type_id: 0 } }, { Sequence: { id: "A", type_id: 0 } }],
    pair: [{ Sequence: { id: "A", type_id: 0 } }, { Sequence: { id: "B", type_id: 1 } }],
    special_tokens: { "<bos>": { id: "<bos>", ids: [2], tokens: ["<bos>"] } },
  },
  decoder: null,
  model: {
    type: "WordLevel",
    vocab: { "<pad>": 0, "<eos>": 1, "<bos>": 2, a: 3, b: 4, "[UNK]": 5 },
    unk_token: "[UNK]",
  },
};
const files = {
  "tokenizer.json": tokenizer,
  "tokenizer_config.json": {
    add_bos_token: true,
    add_eos_token: false,
    bos_token: "<bos>",
    eos_token: { content: "<eos>" },
  },
  "special_tokens_map.json": { bos_token: "<bos>", eos_token: { content: "<eos>", lstrip: false } },
  "config.json": { bos_token_id: 2, eos_token_id: [1, 107] },
} as const;

const dir = mkdtempSync(join(tmpdir(), "qlora-fuzz-"));
afterAll(() => rmSync(dir, { recursive: true }));

/** The folder with one file in the place of the whole one; those that would hide it are empty. */
function folder(name: keyof typeof files, { bytes }: FuzzInput): string {
  for (const [other, whole] of Object.entries(files)) {
    const hidden = name !== "tokenizer.json" && name !== "tokenizer_config.json" && other === "tokenizer_config.json";
    writeFileSync(join(dir, other), JSON.stringify(hidden ? {} : whole));
  }
  writeFileSync(join(dir, name), bytes);
  return dir;
}

for (const name of ["tokenizer_config.json", "special_tokens_map.json", "config.json"] as const) {
  fuzz({
    name,
    kind: "json",
    inputs: 150,
    corpus: [JSON.stringify(files[name])],
    run: (input) => {
      const { bos, eos } = readSpecialRules(folder(name, input));
      readTokenizerFiles(dir);
      for (const token of [...(bos.added ?? []), ...(eos.added ?? [])])
        if (!("token" in token || Number.isInteger(token.id))) throw new Error(`token ${JSON.stringify(token)}`);
    },
  });
}

const processors = [
  tokenizer.post_processor,
  {
    type: "Sequence",
    processors: [
      { type: "ByteLevel", add_prefix_space: true, trim_offsets: false, use_regex: true },
      tokenizer.post_processor,
    ],
  },
  { type: "BertProcessing", sep: ["<eos>", 1], cls: ["<bos>", 2] },
];
fuzz({
  name: "tokenizer.json",
  kind: "json",
  inputs: 150,
  corpus: processors.map((processor) => JSON.stringify({ ...tokenizer, post_processor: processor })),
  run: async (input) => {
    const loaded = await loadTokenizer(folder("tokenizer.json", input));
    const { ids, lengths } = await loaded.encodeBatch(["a b"], { maxLength: 6 });
    if (ids.length !== lengths[0]! || ids.length > 6) throw new Error(`${ids.length} ids`);
  },
});
