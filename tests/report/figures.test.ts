import { describe, expect, test } from "bun:test";
import { softmaxRows } from "../../core/plugin/metric-rows.ts";
import {
  classFigures,
  confusionMatrix,
  expectedCalibrationError,
  lengthHistogram,
  meanAndError,
  reliabilityBins,
  rowLosses,
  wilsonInterval,
} from "../../runtime/report/evaluation-figures.ts";
import { formatLarge, formatRate, formatSeconds } from "../../runtime/report/format.ts";
import { bestPoint, smooth } from "../../runtime/report/history.ts";
import { autoScale, linearScale, stepScale } from "../../runtime/report/scale.ts";
import { goldenPath } from "../support/reference.ts";

/** Four rows counted by hand. */
const four = {
  step: 1,
  numLabels: 3,
  labels: [0, 0, 1, 2],
  probabilities: [
    [0.7, 0.2, 0.1],
    [0.3, 0.6, 0.1],
    [0.1, 0.65, 0.25],
    [0.05, 0.05, 0.9],
  ],
};

describe("predictions", () => {
  test("confusion matrix and class figures of four rows", () => {
    expect(confusionMatrix(four)).toEqual([
      [1, 1, 0],
      [0, 1, 0],
      [0, 0, 1],
    ]);
    const [first, second] = classFigures(four);
    expect([first!.rows, first!.predicted, first!.correct]).toEqual([2, 1, 1]);
    expect([second!.rows, second!.predicted, second!.correct]).toEqual([1, 2, 1]);
    expect(first!.meanProbability).toBeCloseTo(1.15 / 4, 12);
    expect(first!.logLoss).toBeCloseTo((-Math.log(0.7) - Math.log(0.3)) / 2, 12);
  });

  test("reliability bins and expected calibration error of four rows", () => {
    const bins = reliabilityBins(four);
    expect(bins.map((bin) => [bin.count, bin.correct])).toEqual([
      ...Array.from({ length: 6 }, () => [0, 0]),
      [2, 1],
      [1, 1],
      [0, 0],
      [1, 1],
    ]);
    expect(bins[6]!.confidence).toBeCloseTo(0.625, 12);
    // |1 - 1.25| + |1 - 0.7| + |1 - 0.9|, over four rows
    expect(expectedCalibrationError(bins)).toBeCloseTo(0.65 / 4, 12);
  });

  test("a probability of 0 costs what scikit-learn's log_loss charges", () => {
    const [loss] = rowLosses({ step: 0, numLabels: 2, labels: [1], probabilities: [[1, 0]] });
    expect(loss).toBeCloseTo(36.04365338911715, 10);
  });

  test("mean and standard error of 1, 2, 3, 4", () => {
    const { mean, error } = meanAndError([1, 2, 3, 4]);
    expect(mean).toBe(2.5);
    expect(error).toBeCloseTo(0.6454972243679028, 12);
  });

  test("Wilson's interval for 8 of 10", () => {
    // Newcombe 1998's method 3 for 8/10
    const [low, high] = wilsonInterval(8, 10);
    expect(low).toBeCloseTo(0.4901625, 5);
    expect(high).toBeCloseTo(0.9433178, 5);
  });

  test("log loss and accuracy of recorded logits are scikit-learn's", async () => {
    const log = (await Bun.file(goldenPath("train-adamw8bit", "train_log.json")).json()) as {
      eval_logits: number[][];
      eval_labels: number[];
      eval_after: { log_loss: number; acc: number };
    };
    const flat = softmaxRows(log.eval_logits.flat(), 3);
    const probabilities = log.eval_logits.map((_, i) => [...flat.subarray(i * 3, i * 3 + 3)]);
    const record = { step: 50, numLabels: 3, labels: log.eval_labels, probabilities };
    expect(Math.abs(meanAndError(rowLosses(record)).mean - log.eval_after.log_loss)).toBeLessThan(1e-7);
    const right = classFigures(record).reduce((sum, figures) => sum + figures.correct, 0);
    expect(right / log.eval_labels.length).toBe(log.eval_after.acc);
  });
});

describe("lengths", () => {
  test("bins meet at maxLength and lose no row", () => {
    for (const maxLength of [100, 128, 1000, 1024, 1100, undefined]) {
      const lengths = Array.from({ length: 500 }, (_, i) => 1 + ((i * 37) % 1700));
      const { bins, beyond } = lengthHistogram(lengths, maxLength);
      expect(bins.reduce((sum, bin) => sum + bin.count, beyond)).toBe(500);
      if (maxLength === undefined) continue;
      const within = bins.filter((bin) => bin.to <= maxLength).reduce((sum, bin) => sum + bin.count, 0);
      expect(within).toBe(lengths.filter((length) => length <= maxLength).length);
      expect(bins.some((bin) => bin.to === maxLength)).toBe(true);
    }
  });

  test("a long tail is counted, not drawn; rows far below maxLength fill the axis", () => {
    const tail = lengthHistogram([...Array.from({ length: 999 }, () => 100), 50_000], 128);
    expect(tail.beyond).toBe(1);
    expect(tail.upper).toBeLessThan(200);
    expect(lengthHistogram([10, 20, 30], 2048).upper).toBeLessThan(60);
  });
});

describe("axes", () => {
  test("linear ticks are round and enclose the values", () => {
    const scale = linearScale([0.9278, 0.9992]);
    expect(scale.ticks).toEqual([0.92, 0.94, 0.96, 0.98, 1]);
    expect(scale.ticks.map(scale.label)).toEqual(["0.92", "0.94", "0.96", "0.98", "1.00"]);
    expect(scale.position(0.96)).toBeCloseTo(0.5, 12);
    expect(linearScale([0, 1.7e-4], { zero: true, ticks: "rate" }).ticks.map(formatRate)).toEqual([
      "0",
      "5e-5",
      "1e-4",
      "1.5e-4",
      "2e-4",
    ]);
  });

  test("values that spread far get powers of ten, others do not", () => {
    const scale = autoScale([0.5, 200]);
    expect(scale.kind).toBe("log");
    expect(scale.position(10)).toBeCloseTo(
      (Math.log(10) - Math.log(scale.low)) / (Math.log(scale.high) - Math.log(scale.low)),
      12,
    );
    expect(scale.low).toBeLessThanOrEqual(0.5);
    expect(scale.high).toBeGreaterThanOrEqual(200);
    expect(autoScale([0.5, 1, NaN]).kind).toBe("linear");
    expect(autoScale([0, 1000]).kind).toBe("linear");
  });

  test("no value, one value, all equal", () => {
    for (const values of [[], [0], [0.7], [-3, -3], [NaN]]) {
      const scale = linearScale(values);
      expect(scale.low).toBeLessThan(scale.high);
      for (const value of values.filter(Number.isFinite)) expect(scale.position(value)).toBeWithin(0, 1.000001);
    }
    expect(stepScale(0).ticks).toEqual([0, 1]);
    expect(stepScale(2434).ticks).toEqual([0, 500, 1000, 1500, 2000]);
    expect(stepScale(3).ticks).toEqual([0, 1, 2, 3]);
  });
});

test("the moving average is TensorBoard's, with the start's bias taken out", () => {
  const points = [1, 3, NaN, 2].map((value, step) => ({ step, epoch: 0, value }));
  // 1; (0.25 + 1.5) / 0.75; passed over; (0.875 + 1) / 0.875
  expect(smooth(points, 0.5).map(({ value }) => value)).toEqual([1, 1.75 / 0.75, NaN, 1.875 / 0.875]);
});

test("the best of a loss is the lowest, of an accuracy the highest, of an unknown metric none", () => {
  const points = [2, 1, 3].map((value, step) => ({ step, epoch: 0, value }));
  expect(bestPoint(points, "eval_log_loss")?.step).toBe(1);
  expect(bestPoint(points, "eval_accuracy")?.step).toBe(2);
  expect(bestPoint(points, "eval_entropy")).toBeUndefined();
});

test("durations and large numbers", () => {
  expect(
    [0.5, 12.34, 59.96, 133.4, 3599.7, 53_421].map(formatSeconds).map((text) => text.replaceAll("\u00a0", " ")),
  ).toEqual(["0.50 s", "12.3 s", "1 min 00 s", "2 min 13 s", "1 h 00 min", "14 h 50 min"]);
  expect([999_999, 37_324_800, 1.5e9].map(formatLarge).map((text) => text.replaceAll("\u00a0", " "))).toEqual([
    "999,999",
    "37.3 M",
    "1.50 B",
  ]);
});
