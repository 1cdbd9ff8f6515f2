import { describe, expect, test } from "bun:test";
import { loadDataset } from "../../runtime/data/dataset.ts";
import { applyPostProcess, bothEmpty, identicalAnswers } from "../../sdk/post-process.ts";
import { csvRow, tempFile } from "../data/files.ts";

const EMPTY = [0.04, 0.88, 0.08];
const SAME = [0.06, 0.06, 0.88];
const PREDICTED = [0.5, 0.3, 0.2];

const answers: readonly (readonly [string, string, string])[] = [
  ["null and null", "[null]", "[null,null]"],
  ["null twice", "[null]", "[null]"],
  ["white space and nothing", '[" \\n"]', "[]"],
  ["one empty", '[""]', '["text"]'],
  ["equal", '["text","more"]', '["text more"]'],
  ["case differs", '["Text"]', '["text"]'],
];
const { rows } = await loadDataset(
  tempFile(
    "answers.csv",
    ["id,prompt,response_a,response_b", ...answers.map(([id, a, b]) => csvRow(id, '["p"]', a, b))].join("\n"),
  ),
);
const table = rows.map(({ id }) => ({ id, values: PREDICTED }));

describe("post-processing", () => {
  test("both empty, and identical but not empty; order does not matter", async () => {
    const steps = [bothEmpty(EMPTY), identicalAnswers(SAME)];
    const want = [EMPTY, EMPTY, EMPTY, PREDICTED, SAME, PREDICTED];
    const done = applyPostProcess(steps, rows, table);
    expect(done.rows.map(({ values }) => values)).toEqual(want);
    expect(done.rows.map(({ id }) => id)).toEqual(answers.map(([id]) => id));
    expect(done.counts).toEqual([
      { name: "both-empty", rows: 3 },
      { name: "identical", rows: 1 },
    ]);
    expect(applyPostProcess(steps.toReversed(), rows, table).rows).toEqual(done.rows);
  });

  test("one's own steps see the row and what the step before gave; unchanged rows are not counted", async () => {
    const halve = (row: { id: string }, p: readonly number[]): readonly number[] =>
      row.id === "equal" ? [p[0]!, p[1]! / 2, p[2]! + p[1]! / 2] : p;
    const done = applyPostProcess([identicalAnswers(SAME), halve, (_, p) => [...p]], rows, table);
    expect(done.rows[4]!.values).toEqual([0.06, 0.03, 0.91]);
    expect(done.counts).toEqual([
      { name: "identical", rows: 1 },
      { name: "halve", rows: 1 },
      { name: "step 3", rows: 0 },
    ]);
  });

  test("what are no probabilities is an error with the step and the row", async () => {
    const broken = (_: unknown, p: readonly number[]): readonly number[] => p.map((value) => value * 2);
    expect(() => applyPostProcess([broken], rows, table)).toThrow(
      `postProcess broken: got [1,0.6,0.4] for ${rows[0]!.file}:2, expected 3 probabilities that sum to 1`,
    );
    expect(() => bothEmpty([0.5, 0.4])).toThrow("both-empty: got 0.5,0.4, expected three probabilities that sum to 1");
    expect(() => identicalAnswers([0.5, 0.5, 0.5])).toThrow("identical: got 0.5,0.5,0.5");
    expect(() => identicalAnswers([NaN, 0.5, 0.5])).toThrow("identical: got NaN,0.5,0.5");
  });
});
