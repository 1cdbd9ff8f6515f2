import { describe, expect, test } from "bun:test";
import { ensemble } from "../../sdk/ensemble.ts";
import { rejection, tempFile } from "../data/files.ts";
import { qlora } from "../support/command-line.ts";

const HEADER = "id,winner_model_a,winner_model_b,winner_tie";
const file = (name: string, ...lines: readonly string[]): string => tempFile(name, [HEADER, ...lines].join("\n"));
const a = file("a.csv", "1,0.6,0.3,0.1", "2,0.2,0.2,0.6");
const b = file("b.csv", "2,0.4,0.4,0.2", "1,0.2,0.5,0.3");
const rounded = (values: readonly number[]): number[] => values.map((value) => Math.round(value * 1e9) / 1e9);

describe("weighted means", () => {
  test("joined by id, in the order of the first file; weights are normalized", async () => {
    const { rows, weights, temperature } = await ensemble({ files: [a, b], weights: [3, 1] });
    expect(weights).toEqual([0.75, 0.25]);
    expect(temperature).toBe(1);
    expect(rows.map(({ id, values }) => [id, ...rounded(values)])).toEqual([
      ["1", 0.5, 0.35, 0.15],
      ["2", 0.25, 0.25, 0.5],
    ]);
  });

  test("columns may stand in another order", async () => {
    const c = tempFile("c.csv", "winner_tie,id,winner_model_b,winner_model_a\n0.1,1,0.3,0.6\n0.6,2,0.2,0.2");
    expect((await ensemble({ files: [a, c] })).rows.map(({ values }) => rounded(values))).toEqual([
      [0.6, 0.3, 0.1],
      [0.2, 0.2, 0.6],
    ]);
  });

  test("temperature 2 takes square roots", async () => {
    const { rows } = await ensemble({ files: [file("t.csv", "1,0.64,0.04,0.32")], temperature: 2 });
    const sum = 0.8 + 0.2 + Math.sqrt(0.32);
    expect(rounded(rows[0]!.values)).toEqual(rounded([0.8 / sum, 0.2 / sum, Math.sqrt(0.32) / sum]));
  });
});

describe("fitting", () => {
  // Member P gives the label 0.8 in 3 of 4 rows and 0.1 in one, Q the reverse: with weight w for P the loss is
  // -3 log(0.1 + 0.7 w) - log(0.8 - 0.7 w), least where 3 (0.8 - 0.7 w) = 0.1 + 0.7 w, w = 2.3 / 2.8.
  const sharp = (id: string, right: boolean): string => `${id},${right ? "0.8,0.1,0.1" : "0.1,0.8,0.1"}`;
  const ids = ["1", "2", "3", "4"];
  const p = file("p.csv", ...ids.map((id) => sharp(id, id !== "4")));
  const q = file("q.csv", ...ids.map((id) => sharp(id, id === "4")));
  const labels = tempFile("labels.csv", ["id,label", ...ids.map((id) => `${id},0`), "9,1"].join("\n"));

  test("finds the weights of the least log loss", async () => {
    const { weights, fit } = await ensemble({ files: [p, q], fit: labels });
    expect(weights[0]!).toBeCloseTo(2.3 / 2.8, 6);
    expect(fit!.rows).toBe(4);
    expect(fit!.files[0]!).toBeCloseTo(-(3 * Math.log(0.8) + Math.log(0.1)) / 4, 9);
    expect(fit!.equalWeights).toBeCloseTo(-Math.log(0.45), 9);
    expect(fit!.fitted).toBeLessThan(fit!.equalWeights);
  });

  test("finds the temperature: two classes at odds 4:1, right in 3 of 5 rows, want odds 3:2", async () => {
    const odds = ["1", "2", "3", "4", "5"].map((id) => `${id},0.8,0.2`);
    const one = tempFile("one.csv", ["id,label_0,label_1", ...odds].join("\n"));
    const truth = tempFile("truth.csv", "id,label\n1,0\n2,0\n3,0\n4,1\n5,1\n");
    const { temperature, rows, fit } = await ensemble({ files: [one], fit: truth });
    expect(temperature).toBeCloseTo(Math.log(4) / Math.log(1.5), 4);
    expect(rows[0]!.values[0]!).toBeCloseTo(0.6, 5);
    expect(fit!.warning).toBeUndefined();
  });

  test.each([
    [
      "none right",
      1,
      10,
      "stopped at 10, the most that is tried: the labels are fitted best by probabilities that say",
    ],
    [
      "all right",
      0,
      0.1,
      "stopped at 0.1, the least that is tried: the labels of these 3 rows are fitted best by cert",
    ],
  ])("says where the temperature stopped at its bound: %s", async (_, label, bound, warning) => {
    const sure = tempFile("sure.csv", "id,label_0,label_1\n1,0.8,0.2\n2,0.8,0.2\n3,0.7,0.3\n");
    const truth = tempFile("truth.csv", ["id,label", ...["1", "2", "3"].map((id) => `${id},${label}`)].join("\n"));
    const { temperature, fit } = await ensemble({ files: [sure], fit: truth });
    expect(temperature).toBe(bound);
    expect(fit!.warning).toContain(warning);
  });

  test("the command line warns of it", async () => {
    const truth = tempFile("truth.csv", ["id,label", ...ids.map((id) => `${id},2`)].join("\n"));
    const { code, stderr } = await qlora("ensemble", p, q, "--fit", truth);
    expect(code).toBe(0);
    expect(stderr).toMatch(/\[warn\] the temperature stopped at 10,/);
  });

  test("reads labels from the winner columns too", async () => {
    const winners = file("winners.csv", ...ids.map((id) => `${id},1,0,0`));
    expect((await ensemble({ files: [p, q], fit: winners })).weights[0]!).toBeCloseTo(2.3 / 2.8, 6);
  });
});

describe("what does not fit together is one clear error", () => {
  const errors: readonly (readonly [string, () => Promise<unknown>, string])[] = [
    ["ids", () => ensemble({ files: [a, file("x.csv", "1,1,0,0")] }), 'there is no row of id "2", which'],
    ["more ids", () => ensemble({ files: [file("x.csv", "1,1,0,0"), a] }), 'id "2" is not in'],
    ["twice", () => ensemble({ files: [file("x.csv", "1,1,0,0", "1,1,0,0")] }), ':3: id "1" stands twice'],
    ["columns", () => ensemble({ files: [a, tempFile("x.csv", "id,p,q\n1,0.5,0.5\n2,0,1")] }), "columns p, q, but"],
    ["logits", () => ensemble({ files: [file("x.csv", "1,2.5,-1,0")] }), "winner_model_a: expected a probability"],
    ["sum", () => ensemble({ files: [file("x.csv", "1,0.5,0.1,0")] }), "sum to 1, got 0.6"],
    ["no id", () => ensemble({ files: [tempFile("x.csv", "p,q\n0,1")] }), "column id is missing; found p, q"],
    ["weights", () => ensemble({ files: [a, b], weights: [1] }), "weights: got 1 for 2 files"],
    ["negative", () => ensemble({ files: [a, b], weights: [1, -1] }), "weights: got 1,-1, expected numbers >= 0"],
    ["both", () => ensemble({ files: [a], weights: [1], fit: b }), "fit: got it together with weights"],
    ["labels", () => ensemble({ files: [a], fit: tempFile("l.csv", "id,label\n7,0") }), "no id of the probability"],
  ];
  test.each(errors)("%s", async (_, act, message) => {
    expect(await rejection(act())).toContain(message);
  });
});
