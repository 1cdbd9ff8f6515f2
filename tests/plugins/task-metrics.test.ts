/** Metrics of the tasks beside classification, against the examples of scikit-learn's and SciPy's own documentation. */
import { describe, expect, test } from "bun:test";
import type { MetricPlugin } from "../../core/plugin/metric.ts";
import type { Task } from "../../core/plugin/task.ts";
import { defineConfig } from "../../index.ts";
import {
  accuracy,
  adamW8bit,
  gemma2,
  lora,
  mae,
  mse,
  multiLabelF1,
  pairAccuracy,
  pearson,
  spearman,
} from "../../plugins/index.ts";
import { tinyCheckpoint } from "../support/reference.ts";

type Rows = readonly (readonly number[])[];

function score(plugin: MetricPlugin, task: Task, logits: Rows, labels: readonly number[]) {
  const metric = plugin.create({ numLabels: logits[0]!.length, task });
  metric.add(Float32Array.from(logits.flat()), labels, []);
  return metric.result();
}

describe("regression", () => {
  const one = [[2.5], [0], [2], [8]];
  const two = [[0, 2], [-1, 2], [8, -5]]; // prettier-ignore

  test("mse and mae, of one output and of two: sklearn.metrics.mean_squared_error and mean_absolute_error", () => {
    expect(score(mse(), "regression", one, [3, -0.5, 2, 7])).toEqual({ mse: 0.375, rmse: Math.sqrt(0.375) });
    expect(score(mae(), "regression", one, [3, -0.5, 2, 7])).toEqual({ mae: 0.5 });
    expect(score(mse(), "regression", two, [0.5, 1, -1, 1, 7, -6])["mse"]!).toBeCloseTo(0.7083333333333334, 14);
    expect(score(mae(), "regression", two, [0.5, 1, -1, 1, 7, -6])).toEqual({ mae: 0.75 });
  });

  test("pearson: scipy.stats.pearsonr; a constant output has none", () => {
    const rows = [[1], [2], [3], [4], [5], [6], [7]];
    const labels = [10, 9, 2.5, 6, 4, 3, 2];
    expect(score(pearson(), "regression", rows, labels)["pearson"]!).toBeCloseTo(-0.828503883588428, 12);
    expect(score(pearson(), "regression", [[1], [1]], [0, 1])["pearson"]).toBeNaN();
  });

  test("spearman: scipy.stats.spearmanr, with ties; the mean over outputs", () => {
    const rows = [[1], [2], [3], [4], [5]];
    expect(score(spearman(), "regression", rows, [5, 6, 7, 8, 7])["spearman"]!).toBeCloseTo(0.8207826816681233, 12);
    const pair = [[1, 1], [2, 2], [3, 3], [4, 4], [5, 5]]; // prettier-ignore
    const labels = [5, 1, 6, 2, 7, 3, 8, 4, 7, 5];
    expect(score(spearman(), "regression", pair, labels)["spearman"]!).toBeCloseTo((0.8207826816681233 + 1) / 2, 12);
  });
});

describe("multi-label-f1", () => {
  // The example of sklearn.metrics.f1_score: each label has 2/3, 1 and 2/3.
  const labels = [0, 0, 0, 1, 1, 1, 0, 1, 1];
  const logits = [[-1, -1, -1], [1, 1, 1], [1, 1, -1]]; // prettier-ignore

  test("micro, macro and the share of rows with every label right", () => {
    const result = score(multiLabelF1(), "multi-label", logits, labels);
    expect(result["f1_micro"]!).toBeCloseTo(0.8, 14);
    expect(result["f1_macro"]!).toBeCloseTo(7 / 9, 14);
    expect(result["exact_match"]!).toBeCloseTo(2 / 3, 14);
  });

  test("thresholds, one for all or one for each label; another number of them is refused", () => {
    // sigmoid(1) is 0.731: above it nothing is predicted.
    const none = score(multiLabelF1({ thresholds: [0.74] }), "multi-label", logits, labels);
    expect(none).toMatchObject({ f1_micro: 0, f1_macro: 0 });
    const last = score(multiLabelF1({ thresholds: [0.74, 0.5, 0.5] }), "multi-label", logits, labels);
    expect(last["f1_macro"]!).toBeCloseTo(5 / 9, 14);
    expect(() => score(multiLabelF1({ thresholds: [0.5, 0.5] }), "multi-label", logits, labels)).toThrow(
      "metric multi-label-f1: got 2 thresholds, expected one, or one for each of 3 labels",
    );
    expect(() => multiLabelF1({ thresholds: [1] })).toThrow("thresholds: got 1, expected numbers between 0 and 1");
  });
});

test("pair-accuracy: equal scores are wrong; the margin and the mean of the scores", () => {
  const result = score(pairAccuracy(), "reward", [[2, 1], [0, 3], [1, 1]], [0, 0, 0]); // prettier-ignore
  expect(result["pair_accuracy"]!).toBeCloseTo(1 / 3, 14);
  expect(result["margin"]!).toBeCloseTo(-2 / 3, 14);
  expect(result["mean_reward"]!).toBeCloseTo(8 / 6, 14);
});

test("a config refuses metrics of another task, and options of classes", () => {
  const parts = { model: gemma2({ checkpoint: tinyCheckpoint }), adapter: lora(), optimizer: adamW8bit() };
  const message = (input: object): string => {
    try {
      defineConfig({ ...parts, ...input });
      return "accepted";
    } catch (error) {
      return (error as Error).message;
    }
  };
  expect(message({ task: "regression", metrics: [mse(), accuracy()] })).toContain(
    "metrics[1]: got accuracy, which serves classification, with task regression, expected such as mse, mae",
  );
  expect(message({ metrics: [mse()] })).toContain(
    "metrics[0]: got mse, which serves regression, with task classification",
  );
  expect(message({ task: "multi-label", training: { classWeights: [1, 2] } })).toContain(
    "training.classWeights: got 1, 2 with task multi-label, which has no classes",
  );
  expect(message({ task: "ranking" })).toContain('task.task: got "ranking"');
  expect(message({ task: { labelColumns: ["a"] } })).toContain(
    "task.labelColumns: got a with task classification, expected regression or multi-label",
  );
});
