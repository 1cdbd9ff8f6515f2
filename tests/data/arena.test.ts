import { describe, expect, test } from "bun:test";
import { DataError } from "../../core/errors.ts";
import { loadDataset } from "../../runtime/data/dataset.ts";
import type { ArenaRow } from "../../runtime/data/formats/arena.ts";
import { rowText } from "../../runtime/data/row.ts";
import { goldenPath } from "../support/reference.ts";
import { csvRow, rejection, tempFile } from "./files.ts";

const HEADER = "id,model_a,prompt,response_a,response_b,winner_model_a,winner_model_b,winner_tie";

const row = (id: string, prompt: string, a: string, b: string, ...winners: string[]) =>
  csvRow(id, "m", prompt, a, b, ...winners);

const load = async (...lines: string[]) =>
  (await loadDataset(tempFile("arena.csv", `${lines.join("\n")}\n`))).rows as ArenaRow[];

/** The error that `lines` give. */
async function failure(...lines: string[]): Promise<DataError> {
  try {
    await load(...lines);
  } catch (error) {
    if (error instanceof DataError) return error;
    throw error;
  }
  throw new Error("no error");
}

const good = row("7", '["p"]', '["a"]', '["b"]', "1", "0", "0");

describe("what a row becomes", () => {
  test("template, turns joined by a space, null as nothing, labels", async () => {
    const rows = await load(
      HEADER,
      row("7", '["one","two"]', '["a1",null]', "[null]", "1", "0", "0"),
      row("8", "[]", '["x"]', '["y"]', "0", "1", "0"),
      row("9", '["p"]', '["x"]', '["y"]', "0", "0", "1"),
    );
    expect(rows.map((row) => rowText(row))).toEqual([
      "<prompt>: one two\n\n<response_a>: a1 \n\n<response_b>: ",
      "<prompt>: \n\n<response_a>: x\n\n<response_b>: y",
      "<prompt>: p\n\n<response_a>: x\n\n<response_b>: y",
    ]);
    expect(rows.map(({ label }) => label)).toEqual([0, 1, 2]);
    expect(rows.map(({ id }) => id)).toEqual(["7", "8", "9"]);
  });

  test("surrogate pairs are one character, lone surrogates become U+FFFD", async () => {
    const [first] = await load(
      HEADER,
      row("1", '["\\ud83d\\ude00 \\ud83d x \\ude00"]', '["\\u00e9"]', '["\\ud83d"]', "1", "0", "0"),
    );
    expect(first).toMatchObject({ prompt: "\u{1f600} \ufffd x \ufffd", responseA: "é", responseB: "\ufffd" });
  });

  test("columns are found by name, in any order; a prediction file has no labels", async () => {
    const [first] = await load("response_b,prompt,other,response_a", csvRow('["b"]', '["p"]', "o", '["a"]'));
    expect(first).toMatchObject({ id: "0", prompt: "p", responseA: "a", responseB: "b", label: undefined });
  });

  test("true/false and 1.0/0.0 count as 1 and 0; without winner_tie, no winner is a tie", async () => {
    const header = "prompt,response_a,response_b,winner_model_a,winner_model_b";
    const cells = ['["p"]', '["a"]', '["b"]'];
    const rows = await load(
      header,
      csvRow(...cells, "True", "False"),
      csvRow(...cells, "0.0", "1.0"),
      csvRow(...cells, "0", "0"),
    );
    expect(rows.map(({ label }) => label)).toEqual([0, 1, 2]);
  });

  test("a byte order mark and Windows line ends do no harm", async () => {
    const file = tempFile("arena.csv", `\ufeff${HEADER}\r\n${good}\r\n\r\n${good}\r\n`);
    const { rows } = await loadDataset(file);
    expect(rows.map(({ id, line }) => [id, line])).toEqual([
      ["7", 2],
      ["7", 4],
    ]);
  });

  const pandalm = goldenPath("pandalm", "pandalm-1.csv");
  test("PandaLM's 999 rows, concatenated in order", async () => {
    const { rows } = await loadDataset([pandalm, goldenPath("pandalm", "pandalm-2.csv")]);
    expect(rows.length).toBe(999);
    expect(rows[0]).toMatchObject({ id: "0", label: 1, line: 2 });
    expect(rows.every(({ label }) => label !== undefined && label <= 2)).toBe(true);
  });
});

describe("what is wrong is told with its line", () => {
  test("lines count newlines inside quotes: a row is known by its first line", async () => {
    const long = row("1", '["p"]', '["a"]', '["b"]', "1", "0", "0").replace('"m"', '"m\nn\n\no"');
    const rows = await load(HEADER, long, "", good, long, good);
    expect(rows.map(({ line }) => line)).toEqual([2, 7, 8, 12]);
    const bad = row("2", '["p"]', "[broken", '["b"]', "1", "0", "0").replace('"m"', '"m\nn"');
    const error = await failure(HEADER, long, bad, good);
    expect(error).toMatchObject({ code: "DATA_CELL_INVALID", line: 6 });
    expect(error.message).toContain("response_a");
    expect(error.message).toContain(":6: ");
  });

  test.each([
    ["no JSON", "hello"],
    ["a JSON string", '"hello"'],
    ["a number in the list", '["a",3]'],
    ["numpy's quotes", "['a' 'b']"],
    ["nothing", ""],
  ])("cell: %s", async (_, cell) => {
    expect(await failure(HEADER, good, row("2", cell, '["a"]', '["b"]', "1", "0", "0"))).toMatchObject({
      code: "DATA_CELL_INVALID",
      line: 3,
    });
  });

  test.each([
    ["both winners", ["1", "1", "0"], "winner_model_a and winner_model_b"],
    ["winner and tie", ["1", "0", "1"], "winner_model_a and winner_tie"],
    ["no winner", ["0", "0", "0"], "got none"],
    ["a word", ["yes", "0", "0"], 'got "yes"'],
    ["nothing", ["", "1", "0"], "winner_model_a"],
  ])("label: %s", async (_, winners, message) => {
    const error = await failure(HEADER, good, row("2", '["p"]', '["a"]', '["b"]', ...winners));
    expect(error).toMatchObject({ code: "DATA_LABEL_INVALID", line: 3 });
    expect(error.message).toContain(message);
  });

  test("missing columns name what there is", async () => {
    const cells = csvRow('["p"]', '["a"]', '["b"]', "1");
    const error = await failure("prompt,response_a,response_b,winner_model_a", cells);
    expect(error).toMatchObject({ code: "DATA_COLUMN_MISSING", line: 1 });
    expect(error.message).toContain("column winner_model_b is missing; found prompt, response_a");
    const forced = loadDataset(tempFile("a.csv", "prompt,text\n"), { format: "arena" });
    expect(await rejection(forced)).toContain("column response_a is missing");
  });

  test("a row with too few cells, an open quote, a column twice, an empty file", async () => {
    expect(await failure(HEADER, good, "1,2,3", good)).toMatchObject({ code: "DATA_CSV_MALFORMED", line: 3 });
    expect(await failure(HEADER, good, '1,"open', good)).toMatchObject({ code: "DATA_CSV_MALFORMED", line: 3 });
    expect(await failure(`${HEADER},prompt`, `${good},x`)).toMatchObject({ code: "DATA_COLUMN_TWICE", line: 1 });
    expect(await failure("")).toMatchObject({ code: "DATA_EMPTY" });
    expect(await failure(HEADER)).toMatchObject({ code: "DATA_EMPTY" });
  });
});
