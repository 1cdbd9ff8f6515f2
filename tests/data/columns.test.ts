/** Columns as files of this field have them: other names, winners in many words, chats, chosen and rejected answers. */
import { describe, expect, test } from "bun:test";
import { dataOptions } from "../../runtime/config/data-options.ts";
import { type Dataset, type LoadOptions, loadDataset } from "../../runtime/data/dataset.ts";
import type { ArenaRow } from "../../runtime/data/formats/arena.ts";
import { countLabels } from "../../runtime/data/labels.ts";
import { swapResponses } from "../../runtime/data/swap.ts";
import { csvRow, rejection, tempFile } from "./files.ts";

const jsonl = (...rows: readonly object[]): string =>
  tempFile("rows.jsonl", rows.map((row) => JSON.stringify(row)).join("\n"));
const arenaRows = ({ rows }: Dataset): readonly ArenaRow[] => rows as readonly ArenaRow[];
const texts = ({ prompt, responseA, responseB }: ArenaRow): string[] => [prompt, responseA, responseB];
const chat = (...contents: readonly string[]) =>
  contents.map((content, i) => ({ role: i % 2 === 0 ? "user" : "assistant", content }));

describe("other names of columns", () => {
  const row = { question: "q", prompt: "not this", a: "x", b: "y", verdict: "model_b", key: 7 };
  const columns = { id: "key", prompt: "question", response_a: "a", response_b: "b", winner: "verdict" };

  test("are mapped; what is left stays on the row by the file's own names", async () => {
    const [read] = (await loadDataset(jsonl(row), { columns })).rows;
    expect(read).toMatchObject({ kind: "arena", id: "7", prompt: "q", responseA: "x", responseB: "y", label: 1 });
    expect(read!.extra).toEqual({ prompt: "not this" });
  });

  test("a mapped column that is missing is told by both names, an unknown name by the nearest", async () => {
    const lacking = loadDataset(jsonl(row), { columns: { ...columns, response_b: "c" }, format: "arena" });
    expect(await rejection(lacking)).toContain(
      ":1: column c (columns.response_b) is missing; found question, prompt, a, b, verdict, key",
    );
    const text = loadDataset(tempFile("rows.csv", "text,label\na,0\n"), {
      columns: { text: "sentence" },
      format: "classification",
    });
    expect(await rejection(text)).toContain("column sentence (columns.text) is missing; found text, label");
    expect(() => dataOptions.parse({ columns: { responsea: "x" } }, "data")).toThrow(
      'data.columns.responsea: unknown column; did you mean "response_a"?',
    );
  });

  test("of texts", async () => {
    const file = tempFile("rows.csv", "sentence,sentiment\ngood,1\nbad,0\n");
    const { rows } = await loadDataset(file, { columns: { text: "sentence", label: "sentiment" } });
    expect(rows.map((one) => [one.kind === "text" && one.text, one.label])).toEqual([
      ["good", 1],
      ["bad", 0],
    ]);
  });
});

describe("winners", () => {
  const load = (winners: readonly unknown[], more: object = {}, options: LoadOptions = {}) =>
    loadDataset(
      jsonl(...winners.map((winner) => ({ prompt: "p", response_a: "a", response_b: "b", winner, ...more }))),
      options,
    );
  const labels = async (...given: Parameters<typeof load>): Promise<unknown[]> =>
    (await load(...given)).rows.map(({ label }) => label);

  test.each([
    ["the arena's words", ["model_a", "model_b", "tie", "tie (bothbad)", "both_bad"], [0, 1, 2, 2, 2]],
    ["letters", ["A", "B", "a", " b "], [0, 1, 0, 1]],
    ["numbers", [0, 1, 2], [0, 1, 2]],
    ["numbers in quotes", ["0", "1", "2"], [0, 1, 2]],
    ["names of responses", ["response_a", "response_b"], [0, 1]],
  ])("%s", async (_, winners, want) => {
    expect(await labels(winners)).toEqual(want);
  });

  test("names of models, and words of the user's own", async () => {
    const models = { model_a: "gpt-4", model_b: "b" };
    const data = await load(["gpt-4", "b", "tie"], models);
    expect(data.rows.map(({ label }) => label)).toEqual([0, 1, 2]);
    expect(data.rows[0]!.extra).toEqual(models);
    expect(await rejection(load(["gpt-4"], { model_a: "gpt-4", model_b: "gpt-4" }))).toContain('got "gpt-4"');
    expect(await labels(["second", "first", "draw"], {}, { givenNames: ["first", "second", "draw"] })).toEqual([
      1, 0, 2,
    ]);
    expect(await rejection(load(["third"], {}, { givenNames: ["first", "second"] }))).toContain(
      ':1: column winner: expected "first", "second", got "third"',
    );
    expect(await rejection(load([null]))).toContain("got null");
  });

  test("two classes where no row can be a tie, three where one is", async () => {
    expect(countLabels([await load(["model_a", "model_b"])])).toBe(2);
    expect(countLabels([await load(["model_a", "tie"])])).toBe(3);
    expect((await load(["model_a", "model_b"])).labelNames).toEqual(["winner_model_a", "winner_model_b"]);
  });

  test("names of classes in an order of the user's own", async () => {
    const file = jsonl({ text: "a", label: "neg" }, { text: "b", label: "pos" });
    const given = await loadDataset(file, { givenNames: ["pos", "neg", "mixed"] });
    expect([given.rows.map(({ label }) => label), given.labelNames]).toEqual([
      [1, 0],
      ["pos", "neg", "mixed"],
    ]);
    expect(await rejection(loadDataset(file, { givenNames: ["pos", "other"] }))).toContain(
      'got label "neg", expected one of "pos", "other"',
    );
  });
});

describe("turns", () => {
  test("plain strings, lists and chats in one file; each turn is kept where there is more than one", async () => {
    const data = await loadDataset(
      jsonl(
        { prompt: "one", response_a: "a", response_b: "b" },
        { prompt: ["one", "two"], response_a: ["a1", null], response_b: ["b1", "b2"] },
        {
          prompt: chat("one"),
          response_a: chat("", "a").slice(1),
          response_b: [{ role: "assistant", content: [{ type: "text", text: "b" }] }],
        },
      ),
    );
    expect(arenaRows(data).map(texts)).toEqual([
      ["one", "a", "b"],
      ["one two", "a1 ", "b1 b2"],
      ["one", "a", "b"],
    ]);
    expect(arenaRows(data).map(({ turns }) => turns?.responseA)).toEqual([
      undefined,
      [{ text: "a1" }, { text: "" }],
      [{ role: "assistant", text: "a" }],
    ]);
    expect(arenaRows(swapResponses(data))[1]).toMatchObject({
      responseA: "b1 b2",
      turns: { responseA: [{ text: "b1" }, { text: "b2" }] },
    });
  });

  test("chats as JSON in a CSV's cells", async () => {
    const cells = [chat("hi"), chat("", "a").slice(1), chat("", "b").slice(1)].map((turns) => JSON.stringify(turns));
    const file = tempFile("rows.csv", `prompt,response_a,response_b\n${csvRow(...cells)}\n`);
    expect(arenaRows(await loadDataset(file)).map(texts)).toEqual([["hi", "a", "b"]]);
  });

  test("two whole conversations, as the arena publishes them", async () => {
    const file = jsonl({
      question_id: "x",
      conversation_a: chat("q1", "a1", "q2", "a2"),
      conversation_b: chat("q1", "b1", "q2", "b2"),
      winner: "model_a",
    });
    const data = await loadDataset(file, { columns: { id: "question_id" } });
    expect(arenaRows(data).map((row) => [row.id, row.label, ...texts(row)])).toEqual([
      ["x", 0, "q1 q2", "a1 a2", "b1 b2"],
    ]);
  });

  test("texts to classify may be chats", async () => {
    const { rows } = await loadDataset(jsonl({ text: chat("hi", "there"), label: 0 }, { text: "plain", label: 1 }));
    expect(rows).toMatchObject([
      {
        kind: "text",
        text: "hi there",
        turns: [
          { role: "user", text: "hi" },
          { role: "assistant", text: "there" },
        ],
      },
      { kind: "text", text: "plain" },
    ]);
  });

  test("what is no turn is told with its line", async () => {
    for (const prompt of [["a", 3], [{ role: "user" }], [{ content: "x" }], [["a"]], { role: "user", content: "x" }]) {
      const file = jsonl(
        { prompt: "p", response_a: "a", response_b: "b" },
        { prompt, response_a: "a", response_b: "b" },
      );
      expect(await rejection(loadDataset(file))).toContain(
        ":2: column prompt: expected a JSON list of strings and nulls, got ",
      );
    }
  });
});

describe("chosen and rejected", () => {
  const pairs = Array.from({ length: 200 }, (_, i) => ({
    id: `r${i}`,
    prompt: `q${i}`,
    chosen: `good ${i}`,
    rejected: `bad ${i}`,
  }));

  test("the side is drawn by the seed and the id, and half of them are A", async () => {
    const read = async (rows: readonly object[], sideSeed?: number) =>
      arenaRows(await loadDataset(jsonl(...rows), { sideSeed }));
    const rows = await read(pairs);
    for (const [i, row] of rows.entries()) {
      const [chosen, rejected] = row.label === 0 ? [row.responseA, row.responseB] : [row.responseB, row.responseA];
      expect([row.prompt, chosen, rejected]).toEqual([`q${i}`, `good ${i}`, `bad ${i}`]);
    }
    const sides = rows.map(({ label }) => label);
    const ones = sides.filter((label) => label === 1).length;
    expect(ones).toBeGreaterThan(70);
    expect(ones).toBeLessThan(130);
    // sha256("42:r0") = a0..., by its lowest bit of the first byte.
    const first = new Bun.CryptoHasher("sha256").update("42:r0").digest()[0]! & 1;
    expect(sides[0]).toBe(first);
    expect((await read(pairs.toReversed())).map(({ label }) => label)).toEqual(sides.toReversed());
    expect((await read(pairs, 7)).map(({ label }) => label)).not.toEqual(sides);
    expect(countLabels([await loadDataset(jsonl(...pairs))])).toBe(2);
  });

  test("without a prompt it is what both begin with: messages, or text as trl's extract_prompt", async () => {
    const rows = arenaRows(
      await loadDataset(
        jsonl(
          { chosen: chat("q1", "a1", "q2", "good"), rejected: chat("q1", "a1", "q2", "bad") },
          { chosen: "\n\nHuman: Hi\n\nAssistant: Yes sir", rejected: "\n\nHuman: Hi\n\nAssistant: No" },
          { prompt: chat("q"), chosen: chat("q", "good"), rejected: chat("q", "bad") },
        ),
      ),
    );
    const sorted = rows.map((row) => [
      row.prompt,
      ...(row.label === 0 ? [row.responseA, row.responseB] : [row.responseB, row.responseA]),
    ]);
    expect(sorted).toEqual([
      ["q1 a1 q2", "good", "bad"],
      ["\n\nHuman: Hi\n\nAssistant:", " Yes sir", " No"],
      ["q", "good", "bad"],
    ]);
    expect(rows[0]!.turns?.prompt.map(({ role }) => role)).toEqual(["user", "assistant", "user"]);
  });

  test("for prediction there is no label", async () => {
    const { rows } = await loadDataset(jsonl(...pairs), { labelled: false });
    expect(rows.every(({ label }) => label === undefined)).toBe(true);
  });
});

test("whole numbers that a double rounds are exact among the extra columns too", async () => {
  const line =
    '{"text":"a","label":0,"user":1790000000000000123,"neg":-9007199254740993,"half":0.5,"n":12,"deep":{"x":1}}';
  const [row] = (await loadDataset(tempFile("rows.jsonl", line))).rows;
  expect(row!.extra).toEqual({ user: 1790000000000000123n, neg: -9007199254740993n, half: 0.5, n: 12, deep: { x: 1 } });
});
