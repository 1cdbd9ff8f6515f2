import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import type { MetricPlugin } from "../../core/plugin/metric.ts";
import { auc, brier, confusion, ece, f1, mcc } from "../../plugins/index.ts";
import { goldenPath } from "../support/reference.ts";

type Rows = readonly (readonly number[])[];

function scores(plugin: MetricPlugin, logits: Rows, labels: readonly number[]): Readonly<Record<string, number>> {
  const metric = plugin.create({ numLabels: logits[0]!.length });
  metric.add(Float32Array.from(logits.flat()), labels, []);
  return metric.result();
}

const score = (plugin: MetricPlugin, logits: Rows, labels: readonly number[]): number =>
  Object.values(scores(plugin, logits, labels))[0]!;

describe("scikit-learn on 500 recorded rows of 3 classes", () => {
  const { logits, labels, ...want } = JSON.parse(readFileSync(goldenPath("plugins", "metrics.json"), "utf8"));

  const cases = [
    ["auc_ovr_macro", auc()],
    ["auc_ovo_macro", auc({ multiClass: "ovo" })],
    ["f1_macro", f1()],
    ["f1_micro", f1({ average: "micro" })],
    ["brier_multiclass_mean_of_squared_sums", brier()],
    ["ece_15_equal_width_bins", ece()],
    ["mcc", mcc()],
  ] as const;
  for (const [name, plugin] of cases) {
    test(name, () => {
      // The metrics get f32 logits, the recording was made with f64 ones.
      expect(Math.abs(score(plugin, logits, labels) - want[name])).toBeLessThan(1e-8);
    });
  }

  test("confusion", () => {
    const rows: number[][] = want.confusion;
    expect(Object.values(scores(confusion(), logits, labels))).toEqual(rows.flat());
    expect(scores(confusion(), logits, labels)["confusion_1_2"]).toBe(rows[1]![2]);
  });
});

/** Two classes; class 1's probabilities ascend with the row. */
const two = [
  [2, 0],
  [1, 0],
  [0, 1],
  [0, 3],
] as const;

describe("by hand", () => {
  test("auc of two classes counts pairs of class 1 above class 0, a tie as half", () => {
    expect(score(auc(), two, [0, 0, 1, 1])).toBe(1);
    expect(score(auc(), two, [0, 1, 0, 1])).toBe(0.75);
    expect(
      score(
        auc(),
        [
          [1, 0],
          [1, 0],
          [0, 1],
          [0, 1],
        ],
        [0, 1, 0, 1],
      ),
    ).toBe(0.5);
  });

  test("auc is NaN where a class has no rows", () => {
    expect(score(auc(), two, [1, 1, 1, 1])).toBeNaN();
    expect(
      score(
        auc(),
        [
          [1, 0, 0],
          [0, 1, 0],
        ],
        [0, 1],
      ),
    ).toBeNaN();
  });

  test("f1: averages, absent classes, class 1 of two", () => {
    // Labels 0 0 1 1, predicted 0 0 1 1 but one: precision and recall by hand.
    const labels = [0, 1, 1, 1]; // predicted 0 0 1 1
    expect(score(f1({ average: "binary" }), two, labels)).toBeCloseTo(0.8, 12);
    expect(score(f1(), two, labels)).toBeCloseTo((2 / 3 + 0.8) / 2, 12);
    expect(score(f1({ average: "weighted" }), two, labels)).toBeCloseTo((2 / 3) * 0.25 + 0.8 * 0.75, 12);
    expect(score(f1({ average: "micro" }), two, labels)).toBe(0.75);
    // Class 2 of three appears nowhere and is left out; with class 2 predicted once and never right it counts 0.
    expect(
      score(
        f1(),
        [
          [1, 0, 0],
          [0, 1, 0],
        ],
        [0, 1],
      ),
    ).toBe(1);
    expect(
      score(
        f1(),
        [
          [1, 0, 0],
          [0, 1, 0],
          [0, 0, 1],
        ],
        [0, 1, 1],
      ),
    ).toBeCloseTo((1 + 2 / 3 + 0) / 3, 12);
    expect(() => f1({ average: "binary" }).create({ numLabels: 3 })).toThrow("for 2 classes, the data has 3");
  });

  test("brier: sums over classes, half of it for two", () => {
    const third = [[0, 0, 0]];
    expect(score(brier(), third, [1])).toBeCloseTo(4 / 9 + 1 / 9 + 1 / 9, 12);
    expect(score(brier(), [[0, 0]], [1])).toBe(0.25);
    expect(score(brier(), [[50, -50]], [1])).toBeCloseTo(1, 12);
  });

  test("ece: gaps of bins, weighted by their rows; a confidence on a bound belongs below", () => {
    // Confidences 0.5 and 0.5 fall in (0.4, 0.5] of ten bins: accuracy 1/2, no gap.
    expect(
      score(
        ece({ bins: 10 }),
        [
          [0, 0],
          [0, 0],
        ],
        [0, 1],
      ),
    ).toBe(0);
    expect(
      score(
        ece({ bins: 2 }),
        [
          [0, 0],
          [0, 0],
        ],
        [0, 0],
      ),
    ).toBe(0.5);
    const sure = Math.log(3); // confidence 0.75
    expect(
      score(
        ece({ bins: 2 }),
        [
          [sure, 0],
          [0, 0],
        ],
        [0, 0],
      ),
    ).toBeCloseTo((0.25 + 0.5) / 2, 7);
  });

  test("mcc: 1, -1, 0 and undefined as 0", () => {
    expect(score(mcc(), two, [0, 0, 1, 1])).toBe(1);
    expect(score(mcc(), two, [1, 1, 0, 0])).toBe(-1);
    expect(score(mcc(), two, [0, 1, 0, 1])).toBe(0);
    expect(score(mcc(), two, [1, 1, 1, 1])).toBe(0);
  });

  test("confusion: shares of labels, predictions or all", () => {
    const labels = [0, 1, 1, 1];
    expect(scores(confusion(), two, labels)).toEqual({
      confusion_0_0: 1,
      confusion_0_1: 0,
      confusion_1_0: 1,
      confusion_1_1: 2,
    });
    expect(Object.values(scores(confusion({ normalize: "true" }), two, labels))).toEqual([1, 0, 1 / 3, 2 / 3]);
    expect(Object.values(scores(confusion({ normalize: "pred" }), two, labels))).toEqual([0.5, 0, 0.5, 1]);
    expect(Object.values(scores(confusion({ normalize: "all" }), two, labels))).toEqual([0.25, 0, 0.25, 0.5]);
  });

  test("a NaN logit and no rows show as NaN", () => {
    for (const plugin of [auc(), f1(), brier(), ece(), mcc()]) {
      expect(
        score(
          plugin,
          [
            [0, 1],
            [Number.NaN, 0],
            [1, 0],
          ],
          [1, 1, 0],
        ),
      ).toBeNaN();
      expect(Object.values(plugin.create({ numLabels: 2 }).result())).toEqual([Number.NaN]);
    }
    expect(Object.values(scores(confusion(), [[0, Number.NaN]], [0]))).toEqual(Array(4).fill(Number.NaN));
  });
});
