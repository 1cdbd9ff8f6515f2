import { describe, expect, test } from "bun:test";
import { loadTokenizer, type Tokenizer } from "../../runtime/data/tokenizer.ts";
import { truncationMessage, truncationReport } from "../../runtime/data/truncation-report.ts";
import {
  allotTokens,
  CUT,
  encodeRows,
  LOST_RESPONSE_A,
  LOST_RESPONSE_B,
  type RowEncodeOptions,
  type RowText,
} from "../../runtime/data/truncation.ts";
import { tinyCheckpoint } from "../support/reference.ts";

/** One id for each character between bos 2 and eos 1, cut from the right or the left as the real ones are. */
const letters: Tokenizer = {
  bosId: 2,
  eosId: 1,
  vocabSize: 256,
  digest: "letters",
  specials: ({ addBos = true, addEos = true } = {}) => ({ before: addBos ? [2] : [], after: addEos ? [1] : [] }),
  encodeBatch: async (texts, { maxLength = Infinity, addBos = true, addEos = true, truncation = "right" } = {}) => {
    const specials = (addBos ? 1 : 0) + (addEos ? 1 : 0);
    const rows = texts.map((text) => {
      const kept = Math.min(text.length, maxLength - specials);
      const content = truncation === "left" ? text.slice(text.length - kept) : text.slice(0, kept);
      return [...(addBos ? [2] : []), ...Buffer.from(content), ...(addEos ? [1] : [])];
    });
    return {
      ids: Uint32Array.from(rows.flat()),
      lengths: Uint32Array.from(rows, (row) => row.length),
      fullLengths: Uint32Array.from(texts, (text) => text.length + specials),
    };
  },
};

const row = (prompt: string, a: string, b: string): RowText => [
  { head: "P", body: prompt, tail: "", field: 0 },
  { head: "A", body: a, tail: "", field: 1 },
  { head: "B", body: b, tail: "", field: 2 },
];

/** Rows as text, bos as "<" and eos as ">", and their bits. */
async function cut(rows: readonly RowText[], options: RowEncodeOptions): Promise<(readonly [string, number])[]> {
  const { ids, lengths, cuts } = await encodeRows(letters, rows, options);
  let at = 0;
  return [...lengths].map((length, i) => {
    const text = [...ids.subarray(at, (at += length))].map((id) => "?><"[id] ?? String.fromCodePoint(id)).join("");
    return [text, cuts[i]!];
  });
}

describe("tokens of each field", () => {
  test.each([
    // fits: nothing is taken
    [[10, 10, 10], 30, "thirds", [10, 10, 10]],
    [[50, 50, 50], 30, "thirds", [10, 10, 10]],
    // 4 are enough for the prompt, the other 26 are halved
    [[4, 50, 50], 30, "thirds", [4, 13, 13]],
    // 20 are enough for A, then 50 - 20 - 4 for B
    [[4, 20, 90], 50, "thirds", [4, 20, 26]],
    [[90, 90, 90], 50, "budget-20-40-40", [10, 20, 20]],
    [[90, 5, 90], 50, "budget-20-40-40", [15, 5, 30]],
    // what rounding leaves goes to the last fields
    [[50, 50, 50], 32, "thirds", [10, 11, 11]],
    // prompt to 8, then the longer answer first
    [[90, 10, 90], 50, "prompt-cap", [8, 10, 32]],
    [[90, 60, 90], 50, "prompt-cap", [8, 21, 21]],
    [[5, 60, 90], 50, "prompt-cap", [5, 22, 23]],
    // short answers give the prompt its room back
    [[90, 10, 10], 50, "prompt-cap", [30, 10, 10]],
  ] as const)("of %j in %d by %s", (lengths, room, truncation, expected) => {
    expect(allotTokens(lengths, room, truncation, 8)).toEqual([...expected]);
  });
});

describe("cut rows", () => {
  const long = row("pppp", "aaaaaa", "bbbbbb"); // 19 letters with heads
  test.each([
    ["right", 12, "<PppppAaaaa>", CUT | LOST_RESPONSE_B],
    ["right", 15, "<PppppAaaaaaaB>", CUT | LOST_RESPONSE_B],
    ["right", 16, "<PppppAaaaaaaBb>", CUT],
    ["right", 8, "<PppppA>", CUT | LOST_RESPONSE_A | LOST_RESPONSE_B],
    ["left", 10, "<aBbbbbbb>", CUT],
    ["left", 9, "<Bbbbbbb>", CUT | LOST_RESPONSE_A],
    ["left", 21, "<PppppAaaaaaaBbbbbbb>", 0],
    ["thirds", 14, "<PpppAaaaBbbb>", CUT],
    ["budget-20-40-40", 12, "<PpAaaaBbbb>", CUT],
    ["prompt-cap", 14, "<PpAaaaaBbbbb>", CUT],
    ["spread", 12, "<Pp><Aa><Bb>", CUT],
    ["spread", 9, "<P><A><B>", CUT | LOST_RESPONSE_A | LOST_RESPONSE_B],
    ["spread", 30, "<Ppppp><Aaaaaaa><Bbbbbbb>", 0],
  ] as const)("%s at %d", async (truncation, maxLength, text, bits) => {
    expect(await cut([long], { truncation, maxLength, promptMaxTokens: 2 })).toEqual([[text, bits]]);
  });

  test("plain texts stand between arena rows, cut from the right", async () => {
    const rows = ["tttttttttttttttttt", row("p", "a", "b"), "t"];
    expect(await cut(rows, { truncation: "thirds", maxLength: 10 })).toEqual([
      ["<tttttttt>", CUT],
      ["<PpAaBb>", 0],
      ["<t>", 0],
    ]);
  });

  test("an empty response is not lost", async () => {
    expect(await cut([row("pppp", "", "")], { truncation: "right", maxLength: 6 })).toEqual([["<Pppp>", CUT]]);
  });

  test("no room for the fields is an error", () => {
    expect(encodeRows(letters, [long], { truncation: "spread", maxLength: 8 })).rejects.toThrow(
      "maxLength: expected at least 9 (specials and a token of each field), got 8",
    );
  });

  test("with a real tokenizer, rows that fit have the ids of the whole text's fields", async () => {
    const tokenizer = await loadTokenizer(tinyCheckpoint);
    const real: Exclude<RowText, string> = [
      { head: "<prompt>: ", body: "What is 2+2?", tail: "", field: 0 },
      { head: "\n\n<response_a>: ", body: "It is four, of course.", tail: "", field: 1 },
      { head: "\n\n<response_b>: ", body: "Five.", tail: "", field: 2 },
    ];
    const thirds = await encodeRows(tokenizer, [real], { truncation: "thirds", maxLength: 24 });
    expect([...thirds.lengths]).toEqual([24]);
    expect([thirds.ids[0], thirds.ids.at(-1)]).toEqual([2, 1]);
    const spread = await encodeRows(tokenizer, [real], { truncation: "spread", maxLength: 300 });
    const piece = async (text: string): Promise<number[]> => [...(await tokenizer.encodeBatch([text])).ids];
    const pieces = real.map(({ head, body }) => head + body);
    expect([...spread.ids]).toEqual((await Promise.all(pieces.map(piece))).flat());
  });
});

describe("the report", () => {
  const [origin, lengths] = [{ id: "1", file: "rows.jsonl", line: 1, label: 0 }, Uint32Array.of(5, 8, 8, 8)];
  const fullLengths = Uint32Array.of(5, 20, 30, 40);

  test("counts rows cut and rows that lost a whole response", () => {
    const cuts = Uint32Array.of(0, CUT, CUT | LOST_RESPONSE_B, CUT | LOST_RESPONSE_A | LOST_RESPONSE_B);
    const arena = { ...origin, kind: "arena", prompt: "p", responseA: "a", responseB: "b" } as const;
    const report = truncationReport({ files: [], rows: [arena, arena, arena, arena] }, { cuts, fullLengths, lengths });
    expect(report).toEqual({ rows: 4, cut: 3, lostResponseA: 1, lostResponseB: 2, lostAResponse: 2, longest: 40 });
    expect(truncationMessage("training data", report, 8, "right")).toBe(
      "training data: 3 of 4 rows cut to 8 tokens (--truncate right; the longest has 40), 2 lost a whole response",
    );
  });

  test("says nothing of responses where rows are plain texts", () => {
    const text = { ...origin, kind: "text", text: "t" } as const;
    const cuts = Uint32Array.of(0, CUT, CUT, CUT);
    const report = truncationReport({ files: [], rows: [text, text, text, text] }, { cuts, fullLengths, lengths });
    expect(Object.keys(JSON.parse(JSON.stringify(report)) as object)).toEqual(["rows", "cut", "longest"]);
    expect(truncationMessage("training data", report, 8, "right")).toBe(
      "training data: 3 of 4 rows cut to 8 tokens (--truncate right; the longest has 40)",
    );
  });
});
