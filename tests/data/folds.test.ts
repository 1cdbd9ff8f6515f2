/** Folds by group, stratified and both: those that scikit-learn's documentation prints, and what they promise. */
import { describe, expect, test } from "bun:test";
import { loadDataset } from "../../runtime/data/dataset.ts";
import { groupFolds, stratifiedFolds, stratifiedGroupFolds } from "../../runtime/data/folds.ts";
import { loadData, splitFold } from "../../runtime/data/split.ts";
import { createTargets } from "../../runtime/training/targets.ts";
import { random } from "../support/random.ts";
import { rejection, tempFile } from "./files.ts";

const words = (numbers: readonly number[]): string[] => numbers.map(String);

describe("as scikit-learn's", () => {
  // The examples of the docstrings, of 1.7.
  test("StratifiedGroupKFold", () => {
    const y = [0, 0, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    const groups = [1, 1, 2, 2, 3, 3, 3, 4, 5, 5, 5, 5, 6, 6, 7, 8, 8];
    const folds = stratifiedGroupFolds(y, words(groups), 3);
    const test = (fold: number): number[] => [...folds.keys()].filter((row) => folds[row] === fold);
    expect([test(0), test(1), test(2)]).toEqual([
      [4, 5, 6, 12, 13, 14],
      [0, 1, 2, 3, 15, 16],
      [7, 8, 9, 10, 11],
    ]);
  });

  test("GroupKFold", () => {
    expect([...groupFolds(words([0, 0, 2, 2]), 2)]).toEqual([1, 1, 0, 0]);
  });

  test("StratifiedKFold", () => {
    expect([...stratifiedFolds([0, 0, 1, 1], 2)]).toEqual([0, 1, 0, 1]);
    // The user guide's 45 and 5 in three folds: 15 and 2, 15 and 2, 15 and 1.
    const y = [...Array<number>(45).fill(0), ...Array<number>(5).fill(1)];
    const folds = stratifiedFolds(y, 3);
    const counts = [0, 1, 2].map((fold) =>
      [0, 1].map((label) => y.filter((own, row) => own === label && folds[row] === fold).length),
    );
    expect(counts).toEqual([
      [15, 2],
      [15, 2],
      [15, 1],
    ]);
  });

  test("largest groups first, of two alike the later, each to the emptiest fold", () => {
    // Sizes a 1, b 3, c 2, d 2: b to 0, d to 1, c to 1 (2 rows against 3), a to 0.
    expect([...groupFolds(["a", "b", "c", "d", "b", "c", "d", "b"], 2)]).toEqual([0, 0, 1, 1, 0, 1, 1, 0]);
  });
});

describe("of data", () => {
  const next = random(5);
  const rows = Array.from({ length: 300 }, (_, i) => ({
    id: `r${i}`,
    prompt: `p${Math.floor(next() * 60)}`,
    response_a: "a",
    response_b: "b",
    winner: ["model_a", "model_b", "tie"][Math.floor(next() * next() * 3)],
    topic: i % 7,
  }));
  const file = tempFile("rows.jsonl", rows.map((row) => JSON.stringify(row)).join("\n"));

  test("no prompt and no topic is in two folds; every row is in one; shares of classes are even", async () => {
    const all = await loadDataset(file);
    for (const [foldBy, groupBy, key] of [
      ["group", "prompt", "prompt"],
      ["stratified-group", "prompt", "prompt"],
      ["group", "topic", "topic"],
      ["stratified", "prompt", "id"],
    ] as const) {
      const held: string[] = [];
      for (let fold = 0; fold < 5; fold++) {
        const { train, evaluation } = splitFold(all, 5, fold, foldBy, groupBy);
        const of = (part: typeof train) =>
          part.rows.map((row) => (key === "topic" ? String(row.extra!["topic"]) : String((row as never)[key])));
        const trained = new Set(of(train));
        expect(of(evaluation).filter((group) => trained.has(group))).toEqual([]);
        held.push(...evaluation.rows.map(({ id }) => id));
        const share = (part: typeof train): number =>
          part.rows.filter(({ label }) => label === 0).length / part.rows.length;
        if (foldBy === "stratified") expect(Math.abs(share(evaluation) - share(all))).toBeLessThan(0.02);
        if (foldBy === "stratified-group") expect(Math.abs(share(evaluation) - share(all))).toBeLessThan(0.06);
      }
      expect(held.toSorted()).toEqual(rows.map(({ id }) => id).toSorted());
    }
  });

  test("through the options, and what cannot be dealt so", async () => {
    const options = { train: file, nSplits: 3, foldIdx: 2, foldBy: "group", groupBy: "topic" } as const;
    const { train, evaluation } = await loadData(options);
    const topics = (part: typeof train) => new Set(part.rows.map(({ extra }) => extra!["topic"]));
    expect([...topics(evaluation!)].filter((topic) => topics(train).has(topic))).toEqual([]);
    expect(await rejection(loadData({ ...options, groupBy: "subject" }))).toContain(
      ":1: groupBy subject: the row has no such column; found prompt, id, topic",
    );
    expect(await rejection(loadData({ ...options, nSplits: 8 }))).toContain(
      "groupBy topic: got 7 groups, expected at least 8",
    );
  });
});

describe("weights of rows", () => {
  const weighted = (...weights: readonly unknown[]): string =>
    tempFile("rows.jsonl", weights.map((w, i) => JSON.stringify({ text: "a", label: i % 2, w })).join("\n"));
  const options = { softLabelWeight: 0, softLabelTemperature: 1, labelSmoothingFactor: 0 } as const;

  test("scale each row's targets; their mean over the rows is 1, whatever unit they have", async () => {
    for (const unit of [1, 10]) {
      const { rows } = await loadDataset(weighted(unit, 3 * unit, 0, 4 * unit), { weightColumn: "w" });
      expect(rows.map(({ weight }) => weight)).toEqual([unit, 3 * unit, 0, 4 * unit]);
      const [term] = createTargets({ rows }, options, 2)!.of(rows);
      // By hand: the mean is 2, so that rows count 0.5, 1.5, 0 and 2.
      expect([...term!.values]).toEqual([0.5, 0, 0, 1.5, 0, 0, 0, 2]);
    }
    const plain = await loadDataset(weighted(1, 1));
    expect(createTargets(plain, options, 2)).toBeUndefined();
    expect(plain.rows[0]!.extra).toEqual({ w: 1 });
  });

  test("are numbers of at least 0, in training files; others may lack the column", async () => {
    expect(await rejection(loadDataset(weighted(1, -1), { weightColumn: "w" }))).toContain(
      ":2: column w: expected a weight of at least 0, got -1",
    );
    expect(await rejection(loadDataset(weighted(1, "x"), { weightColumn: "w" }))).toContain('got "x"');
    expect(await rejection(loadDataset(weighted(1), { weightColumn: "v" }))).toContain(
      "column v is missing; found text, label, w",
    );
    const { rows } = await loadDataset(weighted(0, 0), { weightColumn: "w" });
    expect(() => createTargets({ rows }, options, 2)).toThrow("weightColumn: every training row has the weight 0");
    const { evaluation } = await loadData({
      train: weighted(1, 2),
      evaluation: tempFile("e.jsonl", '{"text":"a","label":0}'),
      weightColumn: "w",
    });
    expect(evaluation!.rows[0]!.weight).toBeUndefined();
  });
});
