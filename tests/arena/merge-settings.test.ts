/** What merge writes that the base lacks and a classifier of transformers needs. */
import { describe, expect, test } from "bun:test";
import { cpSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { merge } from "../../index.ts";
import { gemma2, lora } from "../../plugins/index.ts";
import type { RunEvent } from "../../runtime/events.ts";
import { fileHost, writeFiles } from "../../runtime/files/folder.ts";
import { mergedConfig } from "../../sdk/merge/config.ts";
import { choosePadding } from "../../sdk/merge/padding.ts";
import { tokenizerChanges, withSettings } from "../../sdk/merge/tokenizer-settings.ts";
import { rejection, temporaryFolder } from "../formats/support.ts";
import { tinyCheckpoint } from "../support/reference.ts";

const folder = temporaryFolder();
let cases = 0;
/** A folder of JSON files. */
function files(of: Record<string, unknown>): string {
  const dir = join(folder, `case${++cases}`);
  mkdirSync(dir);
  for (const [name, json] of Object.entries(of)) writeFileSync(join(dir, `${name}.json`), JSON.stringify(json));
  return dir;
}
const decoder = (...tokens: string[]): object => ({
  added_tokens_decoder: Object.fromEntries(tokens.map((content, id) => [id, { content, special: true }])),
});

describe("the token that is padded with", () => {
  const llama3 = decoder(
    "<|begin_of_text|>",
    "<|end_of_text|>",
    "<|reserved_special_token_0|>",
    "<|finetune_right_pad_id|>",
  );
  const named = { bos_token: "<s>", eos_token: "</s>", unk_token: "<unk>" };
  const cases: [what: string, of: Record<string, unknown>, id: number | undefined, by: string, token?: string][] = [
    ["the base's own", { config: { pad_token_id: 7, vocab_size: 8 }, tokenizer_config: llama3 }, 7, "config.json"],
    [
      "the tokenizer's, as a string",
      { config: {}, tokenizer_config: { ...decoder("<s>", "</s>", "<pad>"), ...named, pad_token: "<pad>" } },
      2,
      "the tokenizer's files",
      "<pad>",
    ],
    [
      "the tokenizer's, as an object, by special_tokens_map and tokenizer.json",
      {
        config: { pad_token_id: null },
        special_tokens_map: { pad_token: { content: "[PAD]" } },
        tokenizer: { added_tokens: [{ id: 5, content: "[PAD]" }] },
      },
      5,
      "the tokenizer's files",
      "[PAD]",
    ],
    ["generation_config's", { config: {}, generation_config: { pad_token_id: 3 } }, 3, "generation_config.json"],
    [
      "Llama 3: the one named for padding, not the one that ends texts",
      { config: { eos_token_id: 1, bos_token_id: 0 }, tokenizer_config: llama3 },
      3,
      "a special token named for padding",
      "<|finetune_right_pad_id|>",
    ],
    [
      "Mistral and Llama 2: the unknown token",
      {
        config: { eos_token_id: 2, bos_token_id: 1 },
        tokenizer_config: { ...decoder("<unk>", "<s>", "</s>"), ...named },
      },
      0,
      "the unknown token",
      "<unk>",
    ],
    [
      "a reserved token",
      { config: { eos_token_id: [1, 0] }, tokenizer_config: decoder("<b>", "<e>", "<|reserved_special_token_0|>") },
      2,
      "a reserved token",
      "<|reserved_special_token_0|>",
    ],
    ["in the end, the one that ends texts", { config: { eos_token_id: [4, 2] } }, 4, "the token that ends texts"],
    ["nothing", { config: {} }, undefined, ""],
    [
      "-1 and ids beyond the vocabulary are none",
      { config: { pad_token_id: -1, vocab_size: 9 }, generation_config: { pad_token_id: 9 } },
      undefined,
      "",
    ],
  ];
  for (const [what, of, id, by, token] of cases) {
    test(what, async () => {
      const found = await choosePadding(files(of));
      expect(found && { id: found.id, by: found.by, token: found.token }).toEqual(
        id === undefined ? undefined : { id, by, token },
      );
      expect(found?.endsTexts ?? false).toBe(by === "the token that ends texts");
    });
  }

  test("a damaged file is said", async () => {
    const dir = files({ config: {} });
    writeFileSync(join(dir, "tokenizer_config.json"), "{");
    expect(await rejection(choosePadding(dir))).toMatchObject({ code: "CHECKPOINT_INVALID" });
  });
});

test("tokenizer_config.json: what the run did and what the base lacks; numbers as they were", async () => {
  const text =
    '{"model_max_length": 1000000000000000019884624838656, "x": 1.0, "pad_token": null, "add_eos_token": false}';
  const dir = files({ config: {} });
  writeFileSync(join(dir, "tokenizer_config.json"), text);
  const padding = { id: 0, token: "<unk>", by: "", endsTexts: false };
  const specials = { addBosToken: true, addEosToken: true };
  const changes = await tokenizerChanges(dir, { padding, specials });
  expect(changes).toEqual({ pad_token: "<unk>", add_bos_token: true, add_eos_token: true });
  expect(withSettings(text, changes)).toBe(
    '{\n  "model_max_length": 1000000000000000019884624838656,\n  "x": 1.0,\n  "pad_token": "<unk>",\n  "add_eos_token": true,\n  "add_bos_token": true\n}\n',
  );
  expect(withSettings(text, {})).toBe(text);
  expect(
    await tokenizerChanges(tinyCheckpoint, { padding, specials: { addBosToken: true, addEosToken: false } }),
  ).toEqual({});
  expect(await tokenizerChanges(files({ config: {} }), { padding, specials })).toEqual({});
});

test("names of the classes: the run's, else the base's, else transformers' own", async () => {
  const labels = async (config: object, names?: string[]): Promise<unknown> =>
    JSON.parse(
      await mergedConfig(
        files({ config: { architectures: ["LlamaModel"], ...config } }),
        {},
        { numLabels: 2, task: "classification", labelNames: names },
      ),
    ).id2label;
  expect(await labels({ id2label: { 0: "x", 1: "y" } }, ["good", "bad"])).toEqual({ 0: "good", 1: "bad" });
  expect(await labels({ id2label: { 0: "x", 1: "y" } })).toEqual({ 0: "x", 1: "y" });
  expect(await labels({})).toEqual({ 0: "LABEL_0", 1: "LABEL_1" });
});

test("merging into a base without a pad token writes one, and says so", async () => {
  const base = join(folder, "base");
  cpSync(tinyCheckpoint, base, { recursive: true });
  const change = (name: string, keys: readonly string[]): void => {
    const json = JSON.parse(readFileSync(join(base, name), "utf8"));
    for (const key of keys) delete json[key];
    writeFileSync(join(base, name), JSON.stringify(json));
  };
  change("config.json", ["pad_token_id"]);
  change("generation_config.json", ["pad_token_id"]);
  change("tokenizer_config.json", ["pad_token"]);
  change("special_tokens_map.json", ["pad_token"]);
  const adapter = join(folder, "adapter");
  mkdirSync(adapter);
  const { linears, head } = await gemma2({ checkpoint: base }).create(fileHost).outline(3);
  const made = await lora({ rank: 2 }).create({ linears, head, baseModel: base, seed: 1 });
  const zeros = [...made.parameters, ...head].map(({ name, shape }) => {
    return [name, new Float32Array(shape.reduce((product, n) => product * n, 1))] as const;
  });
  await writeFiles(adapter, await made.save(new Map(zeros)));
  const told: string[] = [];
  const onEvent = (event: RunEvent): void => void ("message" in event && told.push(event.message));
  const out = join(folder, "merged");
  await merge({ run: adapter, outputDir: out, rows: 0 }, { onEvent });
  const read = (name: string): Record<string, unknown> => JSON.parse(readFileSync(join(out, name), "utf8"));
  expect(read("config.json")["pad_token_id"]).toBe(0);
  expect(read("tokenizer_config.json")["pad_token"]).toBe("<pad>");
  expect(told).toContain("config.json: pad_token_id 0 (<pad>), by a special token named for padding");
  expect(told).toContain("tokenizer_config.json: pad_token <pad>");
}, 60_000);
