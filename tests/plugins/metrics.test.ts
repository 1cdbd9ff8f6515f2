import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import type { MetricPlugin } from "../../core/plugin/metric.ts";
import { accuracy } from "../../plugins/accuracy/index.ts";
import { logLoss } from "../../plugins/log-loss/index.ts";
import { goldenPath } from "../support/reference.ts";

function score(
  plugin: MetricPlugin,
  logits: readonly (readonly number[])[],
  labels: readonly number[],
  batch = 7,
): number {
  const metric = plugin.create({ numLabels: logits[0]!.length });
  for (let at = 0; at < labels.length; at += batch) {
    metric.add(Float32Array.from(logits.slice(at, at + batch).flat()), labels.slice(at, at + batch), []);
  }
  return Object.values(metric.result())[0]!;
}

const json = (...path: string[]) =>
  JSON.parse(readFileSync(goldenPath(...path), "utf8").replaceAll("Infinity", "null"));

describe("recorded logits", () => {
  test("scikit-learn's log loss and accuracy of 500 rows", () => {
    const { logits, labels, ...want } = json("plugins", "metrics.json");
    expect(Math.abs(score(logLoss(), logits, labels) - want.log_loss)).toBeLessThan(1e-7);
    expect(score(accuracy(), logits, labels)).toBe(want.accuracy);
  });

  for (const run of ["train-adamw", "train-adamw8bit", "train-adamw8bit-fp16"]) {
    test(`${run}: the evaluation that transformers recorded`, () => {
      const log = json(run, "train_log.json");
      expect(Math.abs(score(logLoss(), log.eval_logits, log.eval_labels) - log.eval_after.log_loss)).toBeLessThan(1e-7);
      expect(score(accuracy(), log.eval_logits, log.eval_labels)).toBeCloseTo(log.eval_after.acc, 12);
    });
  }
});

describe("log-loss", () => {
  test("by hand: uniform logits give ln 3, one of two certain gives half of ln(2^23)", () => {
    expect(score(logLoss(), [[5, 5, 5]], [1])).toBeCloseTo(Math.log(3), 12);
    const extremes = [
      [1000, 0],
      [1000, 0],
    ];
    expect(score(logLoss(), extremes, [0, 1])).toBeCloseTo((23 * Math.LN2 + 2 ** -23) / 2, 9);
  });

  test("batching does not matter; a NaN shows; no rows is NaN", () => {
    const logits = [
      [1, 2, 3],
      [0.5, -1, 2],
      [3, 3, 1],
    ];
    expect(score(logLoss(), logits, [0, 1, 2], 1)).toBe(score(logLoss(), logits, [0, 1, 2], 3));
    expect(score(logLoss(), [[NaN, 0]], [1])).toBeNaN();
    expect(logLoss().create({ numLabels: 3 }).result()).toEqual({ log_loss: NaN });
  });
});

describe("accuracy", () => {
  test("the first class wins a tie; a row with NaN is wrong", () => {
    expect(
      score(
        accuracy(),
        [
          [1, 1],
          [1, 1],
          [0, 2],
          [NaN, NaN],
        ],
        [0, 1, 1, 0],
      ),
    ).toBe(0.5);
  });

  test("labels and sizes are checked", () => {
    const metric = accuracy().create({ numLabels: 2 });
    expect(() => metric.add(new Float32Array(2), [2], [])).toThrow("row 0: label 2 is no class of 0..1");
    expect(() => metric.add(new Float32Array(3), [1], [])).toThrow("3 logits for 1 labels of 2 classes");
  });
});
