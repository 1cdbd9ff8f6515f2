import { describe, expect, test } from "bun:test";
import { dataOptions } from "../../runtime/config/data-options.ts";
import { loadDataset } from "../../runtime/data/dataset.ts";
import { fingerprintDataset } from "../../runtime/data/fingerprint.ts";
import { countLabels } from "../../runtime/data/labels.ts";
import { splitFold } from "../../runtime/data/split.ts";
import { taskOptions } from "../../runtime/config/task-options.ts";
import { loadRunData } from "../../runtime/run/data.ts";
import { csvRow, rejection, tempFile } from "../data/files.ts";

const HEADER = "id,prompt,response_a,response_b,winner_model_a,winner_model_b,winner_tie";
const line = (id: string, ...numbers: readonly string[]): string => csvRow(id, '["p"]', '["a"]', '["b"]', ...numbers);
const arena = (...ids: readonly string[]): string =>
  tempFile("arena.csv", [HEADER, ...ids.map((id) => line(id, "1", "0", "0"))].join("\n"));
const idsOf = ({ rows }: { readonly rows: readonly { readonly id: string }[] }): string[] => rows.map(({ id }) => id);

const dataset = await loadDataset(arena("10", "3", "7", "3", "8"));

describe("folds", () => {
  test("by index, and by the id itself", async () => {
    expect(idsOf(splitFold(dataset, 2, 1).evaluation)).toEqual(["3", "3"]);
    expect(idsOf(splitFold(dataset, 5, 3, "id").evaluation)).toEqual(["3", "3", "8"]);
    expect(idsOf(splitFold(dataset, 5, 3, "id").train)).toEqual(["10", "7"]);
  });

  test("by hash: the first four bytes of sha256, so that rows of one id never part", async () => {
    // sha256("3") = 4e07408562bedb8b..., sha256("7") = 7902699be42c8a8e...
    expect([0x4e074085 % 7, 0x7902699b % 7]).toEqual([5, 0]);
    const fold = splitFold(await loadDataset(arena("3", "7", "3")), 7, 5, "hash");
    expect([idsOf(fold.evaluation), idsOf(fold.train)]).toEqual([["3", "3"], ["7"]]);
  });

  test("by an id that is no number is an error", async () => {
    const file = arena("x1", "2");
    const named = await loadDataset(file);
    expect(() => splitFold(named, 2, 0, "id")).toThrow(`${file}:2: foldBy id: expected a whole number, got "x1"`);
  });
});

const task = taskOptions.parse({});

describe("swap augmentation", () => {
  test("adds each training row exchanged, and leaves the held-out rows alone", async () => {
    const options = dataOptions.parse({ trainFiles: [arena("0", "1", "2")], nSplits: 3, swapAugment: true });
    const { train, evaluation } = await loadRunData(options, task);
    expect(train.rows.map(({ id, label }) => [id, label])).toEqual([
      ["1", 0],
      ["2", 0],
      ["1#swapped", 1],
      ["2#swapped", 1],
    ]);
    expect(train.rows[2]).toMatchObject({ responseA: "b", responseB: "a" });
    expect(idsOf(evaluation!)).toEqual(["0"]);
  });

  test("needs arena rows", async () => {
    const file = tempFile("text.csv", "text,label\na,0\nb,1");
    const options = dataOptions.parse({ trainFiles: [file], swapAugment: true });
    expect(await rejection(loadRunData(options, task))).toContain(
      `${file}:2: swapAugment needs arena rows, this one is text`,
    );
  });
});

describe("soft labels", () => {
  const columns = ["winner_model_a", "winner_model_b", "winner_tie"];

  test("in the winner columns, as predict writes them: the label is the likeliest; exchanged with the answers", async () => {
    const file = tempFile("soft.csv", [HEADER, line("1", "0.25", "0.625", "0.125")].join("\n"));
    const { train } = await loadRunData(
      dataOptions.parse({ trainFiles: [file], softLabelColumns: columns, swapAugment: true }),
      task,
    );
    expect(train.rows.map(({ label, soft }) => [label, soft])).toEqual([
      [1, [0.25, 0.625, 0.125]],
      [0, [0.625, 0.25, 0.125]],
    ]);
  });

  test("beside the labels, which stay; they are part of what a resumed run must find", async () => {
    const rows = (a: string): string =>
      tempFile("both.csv", [`${HEADER},t_a,t_b,t_tie`, line("1", "1", "0", "0", a, "0.5", "0.25")].join("\n"));
    const soft = ["t_a", "t_b", "t_tie"];
    const read = await loadDataset(rows("0.25"), { softLabelColumns: soft });
    expect(read.rows[0]).toMatchObject({ label: 0, soft: [0.25, 0.5, 0.25] });
    const other = await loadDataset(rows("0.2505"), { softLabelColumns: soft });
    expect(fingerprintDataset(other)).not.toBe(fingerprintDataset(read));
  });

  test("of a classification file: classes are counted by the columns", async () => {
    const file = tempFile("c.csv", "text,p,q,r,s\nx,0.1,0.2,0.3,0.4");
    const read = await loadDataset(file, { softLabelColumns: ["p", "q", "r", "s"] });
    expect(read.rows[0]!.label).toBe(3);
    expect(countLabels([read])).toBe(4);
  });

  test.each([
    ["0.2,0.2,0.2", "expected soft labels that sum to 1, got 0.6"],
    ["2,-1,0", 'column p: expected a probability, got "2"'],
    [",1,0", 'column p: expected a probability, got ""'],
  ])("%s is an error with its line", async (values, message) => {
    const file = tempFile("bad.csv", `text,p,q,r\nx,0,1,0\ny,${values}`);
    expect(await rejection(loadDataset(file, { softLabelColumns: ["p", "q", "r"] }))).toContain(
      `${file}:3: ${message}`,
    );
    expect(await rejection(loadDataset(file, { softLabelColumns: ["p", "z"] }))).toContain("column z is missing");
  });
});
