/** Templates: what text they make of rows, how budgets cut it, and that a run's own is used again. */
import { describe, expect, test } from "bun:test";
import { cpSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { defineOptions, option } from "../../core/options/options.ts";
import { defineTemplate, type Template } from "../../core/plugin/template.ts";
import { dataOptions } from "../../runtime/config/data-options.ts";
import { openDatasetTokenizer } from "../../runtime/data/dataset-tokenizer.ts";
import { type Dataset, loadDataset } from "../../runtime/data/dataset.ts";
import { contentOf, rowText } from "../../runtime/data/row.ts";
import { swapResponses } from "../../runtime/data/swap.ts";
import { templateContext } from "../../runtime/data/templates/context.ts";
import { namedTemplate } from "../../runtime/data/templates/index.ts";
import { notebookTemplate } from "../../runtime/data/templates/notebook.ts";
import { loadTokenizer } from "../../runtime/data/tokenizer.ts";
import { encodeRows, LOST_RESPONSE_B, type RowText, TRUNCATIONS } from "../../runtime/data/truncation.ts";
import { tinyCheckpoint } from "../support/reference.ts";
import { rejection, tempDir, tempFile } from "./files.ts";

const jsonl = (...rows: readonly object[]): string =>
  tempFile("rows.jsonl", rows.map((row) => JSON.stringify(row)).join("\n"));
const arena = { prompt: "Why?", response_a: "So ", response_b: "No", winner: "model_a", language: "en" };
const rounds = {
  prompt: ["p1", "p2"],
  response_a: ["a1", "a2"],
  response_b: ["b1"],
  winner: "model_b",
  language: "de",
};

/** Gemma's chat template, as its tokenizer_config.json has it. */
const GEMMA = `{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}{% if (message['role'] == 'assistant') %}{% set role = 'model' %}{% else %}{% set role = message['role'] %}{% endif %}{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}{% endfor %}{% if add_generation_prompt %}{{'<start_of_turn>model\n'}}{% endif %}`;

/** The tiny checkpoint's tokenizer with Gemma's chat template. */
function chatFolder(): string {
  const dir = tempDir();
  for (const name of ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"])
    cpSync(join(tinyCheckpoint, name), join(dir, name));
  writeFileSync(join(dir, "chat_template.jinja"), GEMMA);
  return dir;
}

const live = async (text: string, dir = tinyCheckpoint): Promise<Template> =>
  namedTemplate(text)!.create(await templateContext(dir));
const textsOf = ({ rows }: Dataset, template?: Template): string[] => rows.map((row) => rowText(row, template));

describe("texts", () => {
  test("the notebook's are those that formats make by themselves, whole and by parts", async () => {
    const data = await loadDataset(jsonl(arena, rounds));
    const plain = await loadDataset(jsonl({ text: "a {b}", label: 0 }));
    const notebook = notebookTemplate().create(await templateContext(undefined));
    expect(namedTemplate("notebook")).toBeUndefined();
    expect(textsOf(data, notebook)).toEqual(textsOf(data));
    expect(data.rows.map((row) => contentOf(row, notebook))).toEqual(data.rows.map((row) => contentOf(row)));
    expect(textsOf(plain, notebook)).toEqual(["a {b}"]);
  });

  test("a text with fields in braces, other columns of the file among them", async () => {
    const data = await loadDataset(jsonl(arena, rounds));
    const template = await live("[{language}]\\nQ: {prompt}\\nA: {response_a}\nB: {response_b}\\n{{which\\\\}}?");
    expect(textsOf(data, template)).toEqual([
      "[en]\nQ: Why?\nA: So \nB: No\n{which\\}?",
      "[de]\nQ: p1 p2\nA: a1 a2\nB: b1\n{which\\}?",
    ]);
    expect(textsOf(swapResponses(data), template)[0]).toBe("[en]\nQ: Why?\nA: No\nB: So \n{which\\}?");
    const text = await loadDataset(jsonl({ text: "good", label: 0, topic: ["x"] }));
    expect(textsOf(text, await live("{topic}: {text}!"))).toEqual(['["x"]: good!']);
  });

  test("a tag for each turn, round by round, with roles that are not the speaker's own", async () => {
    const chat = {
      ...arena,
      prompt: [
        { role: "system", content: "S" },
        { role: "user", content: "U" },
      ],
    };
    const template = await live("tags");
    expect(textsOf(await loadDataset(jsonl(arena, rounds, chat)), template)).toEqual([
      "<prompt_1>Why?</prompt_1>\n<response_a_1>So </response_a_1>\n<response_b_1>No</response_b_1>\n",
      "<prompt_1>p1</prompt_1>\n<response_a_1>a1</response_a_1>\n<response_b_1>b1</response_b_1>\n<prompt_2>p2</prompt_2>\n<response_a_2>a2</response_a_2>\n",
      '<prompt_1 role="system">S</prompt_1>\n<response_a_1>So </response_a_1>\n<response_b_1>No</response_b_1>\n<prompt_2>U</prompt_2>\n',
    ]);
    expect(textsOf(await loadDataset(jsonl({ text: ["one", "two"], label: 0 })), template)).toEqual([
      "<text_1>one</text_1>\n<text_2>two</text_2>\n",
    ]);
  });

  test("the tokenizer's chat template: one message of a comparison, the messages of a chat", async () => {
    const template = await live("chat", chatFolder());
    const data = await loadDataset(jsonl(arena, { ...arena, response_b: "No " }));
    const [first, stripped] = textsOf(data, template);
    // Gemma's strips each content, as its own template says; the generation prompt follows.
    expect(first).toBe(
      "<bos><start_of_turn>user\n<prompt>: Why?\n\n<response_a>: So \n\n<response_b>: No<end_of_turn>\n<start_of_turn>model\n",
    );
    expect(stripped).toBe(first);
    const parts = contentOf(data.rows[0]!, template) as Exclude<RowText, string>;
    expect(parts.map(({ body, field }) => [body, field])).toEqual([
      ["Why?", 0],
      ["So ", 1],
      ["No", 2],
    ]);
    const chat = [
      { role: "user", content: " hi " },
      { role: "assistant", content: "there" },
    ];
    expect(textsOf(await loadDataset(jsonl({ text: chat, label: 0 })), template)).toEqual([
      "<bos><start_of_turn>user\nhi<end_of_turn>\n<start_of_turn>model\nthere<end_of_turn>\n",
    ]);
    const system = await loadDataset(jsonl({ text: [{ role: "system", content: "x" }], label: 0 }));
    expect(() => textsOf(system, template)).toThrow("its chat template fails: System role not supported");
    const bare = await live("chat");
    expect(() => textsOf(data, bare)).toThrow(`${tinyCheckpoint}: its tokenizer has no chat template`);
  });

  test("what is wrong with a template is told: its name, its braces, its fields", async () => {
    const parse = (template: string) => () => dataOptions.parse({ template }, "data");
    expect(parse("tag")).toThrow(
      'data.template: got "tag", expected notebook, tags, chat or a text with fields in braces such as {prompt}; did you mean "tags"?',
    );
    expect(parse("{prompt")).toThrow("a { without its other brace; write {{ for one");
    expect(parse("{{prompt}}")).toThrow("it names no field");
    expect(parse("{}")).toThrow('"{}" names no field');
    const data = await loadDataset(jsonl(arena));
    const wrong = await live("{question}");
    expect(() => textsOf(data, wrong)).toThrow(
      ":1: the template names {question}, the row has prompt, response_a, response_b, language",
    );
  });
});

/** bos, eos and a token for each character. */
const letters = {
  bosId: 94,
  eosId: 62,
  vocabSize: 65_536,
  digest: "letters",
  specials: () => ({ before: [94], after: [62] }),
  encodeBatch: async (
    texts: readonly string[],
    {
      addBos = true,
      addEos = true,
      maxLength = Infinity,
      truncation,
    }: {
      addBos?: boolean | undefined;
      addEos?: boolean | undefined;
      maxLength?: number | undefined;
      truncation?: string | undefined;
    } = {},
  ) => {
    const specials = Number(addBos) + Number(addEos);
    const rows = texts.map((text) => {
      const kept = Math.min(text.length, maxLength - specials);
      const codes = Array.from(truncation === "left" ? text.slice(text.length - kept) : text.slice(0, kept), (letter) =>
        letter.charCodeAt(0),
      );
      return [...(addBos ? [94] : []), ...codes, ...(addEos ? [62] : [])];
    });
    return {
      ids: Uint32Array.from(rows.flat()),
      lengths: Uint32Array.from(rows, (row) => row.length),
      fullLengths: Uint32Array.from(texts, (text) => text.length + specials),
    };
  },
};

describe("truncation", () => {
  const cut = async (
    template: string,
    truncation: (typeof TRUNCATIONS)[number],
    maxLength: number,
    row: object = { prompt: "pppppp", response_a: "aaaaaa", response_b: "bbbbbb", language: "en" },
  ) => {
    const data = await loadDataset(jsonl(row));
    const content = contentOf(data.rows[0]!, await live(template)) as RowText;
    const { ids, cuts, fullLengths } = await encodeRows(letters, [content], {
      truncation,
      maxLength,
      promptMaxTokens: 3,
    });
    return { text: String.fromCharCode(...ids), lost: (cuts[0]! & LOST_RESPONSE_B) > 0, full: fullLengths[0] };
  };

  test.each([
    ["thirds", 20, "^[en]P:pA:aaB:bbb??>", 33],
    ["budget-20-40-40", 22, "^[en]P:A:aaaaB:bbbb??>", 33],
    ["prompt-cap", 20, "^[en]P:A:aaaB:bbb??>", 33],
    ["thirds", 40, "^[en]P:ppppppA:aaaaaaB:bbbbbb??>", 33],
    ["right", 20, "^[en]P:ppppppA:aaaa>", 33],
    ["left", 12, "^B:bbbbbb??>", 33],
  ] as const)(
    "%s to %d keeps heads, what belongs to no field, and the end of the template",
    async (truncation, maxLength, want, full) => {
      const { text, full: whole } = await cut(
        "[{language}]P:{prompt}A:{response_a}B:{response_b}??",
        truncation,
        maxLength,
      );
      expect(text).toBe(want);
      expect(text.length).toBeLessThanOrEqual(maxLength);
      expect(whole).toBe(full - 1);
    },
  );

  test("turns of a field are cut from the last; a turn that is gone takes its tags with it", async () => {
    const row = { prompt: ["pp", "pp"], response_a: ["aa", "aa"], response_b: ["bb", "bb"] };
    const whole =
      "^<prompt_1>pp</prompt_1>\n<response_a_1>aa</response_a_1>\n<response_b_1>bb</response_b_1>\n<prompt_2>pp</prompt_2>\n<response_a_2>aa</response_a_2>\n<response_b_2>bb</response_b_2>\n>";
    expect((await cut("tags", "thirds", whole.length, row)).text).toBe(whole);
    // Responses have the longest tags, so that the prompt needs less than its third: both lose their second turn.
    const less = (await cut("tags", "thirds", whole.length - 6, row)).text;
    expect(less).toBe(
      "^<prompt_1>pp</prompt_1>\n<response_a_1>aa</response_a_1>\n<response_b_1>bb</response_b_1>\n<prompt_2>pp</prompt_2>\n>",
    );
    const { text, lost } = await cut("tags", "thirds", 140, row);
    expect(text).toStartWith("^<prompt_1>p");
    expect(text).toContain("</response_b_1>");
    expect(text).not.toContain("_2");
    expect(lost).toBe(false);
  });

  test("a template that leaves no room is an error, with what is needed", async () => {
    expect(await rejection(cut("[{language}]P:{prompt}A:{response_a}B:{response_b}??", "thirds", 6))).toContain(
      "maxLength: expected at least 8 and specials (what the template keeps whole, and a token of each field), got room for 4",
    );
  });

  test("with a real tokenizer every way of cutting keeps to maxLength, and bos stands once", async () => {
    const dir = chatFolder();
    const tokenizer = await loadTokenizer(dir);
    const long = {
      ...arena,
      prompt: "one two three ".repeat(20),
      response_a: "yes ".repeat(30),
      response_b: "no ".repeat(40),
    };
    const data = await loadDataset(jsonl(arena, long));
    for (const name of ["chat", "tags", "{prompt}\n{response_a}\n{response_b}\nVerdict:"]) {
      const template = await live(name, dir);
      const rows = data.rows.map((row) => contentOf(row, template) as RowText);
      for (const truncation of TRUNCATIONS) {
        const { ids, lengths } = await encodeRows(tokenizer, rows, { truncation, maxLength: 160 });
        expect(
          lengths.every((length) => length <= 160),
          `${name} ${truncation}`,
        ).toBe(true);
        if (truncation !== "spread") expect([...ids.subarray(0, lengths[0])].filter((id) => id === 2)).toHaveLength(1);
      }
    }
  });
});

describe("fingerprints and the cache", () => {
  const options = { prefix: option("string", { default: "P ", help: "what comes first" }) };
  const prefixed = (code: string) =>
    defineTemplate({
      name: "own",
      options: defineOptions(options),
      create: ({ prefix }) => ({ parts: (row) => [{ head: prefix + code, text: row.text("text"), field: "prompt" }] }),
    });

  test("another template is another dataset, also one whose code alone changed", async () => {
    const data = await loadDataset(jsonl({ text: "a", label: 0 }, { text: "b", label: 1 }));
    const of = async (template?: Parameters<typeof openDatasetTokenizer>[0]["template"]) => {
      const tokenizer = openDatasetTokenizer({ dir: tinyCheckpoint, cache: false, template });
      const tokens = await tokenizer.tokenize(data);
      const ids = [...(await tokens.get(0))].join();
      await tokenizer.close();
      return [tokens.fingerprint, ids] as const;
    };
    const dir = undefined;
    const all = [
      await of(),
      await of({ plugin: prefixed("")(), dir }),
      await of({ plugin: prefixed("!")(), dir }),
      await of({ plugin: prefixed("")({ prefix: "Q " }), dir }),
    ];
    expect(new Set(all.map(([fingerprint]) => fingerprint)).size).toBe(4);
    expect(new Set(all.map(([, ids]) => ids)).size).toBe(4);
    expect(await of({ plugin: prefixed("!")(), dir })).toEqual(all[2]!);
  });
});
