import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import {
  learningRateAt,
  type LrSchedulerType,
  type ScheduleOptions,
  warmupStepsOf,
} from "../../runtime/training/schedule.ts";
import { goldenPath } from "../support/reference.ts";

const schedule = (lrSchedulerType: LrSchedulerType, rest: Partial<ScheduleOptions> = {}): ScheduleOptions => ({
  learningRate: 2,
  lrSchedulerType,
  warmupSteps: 4,
  warmupRatio: 0,
  ...rest,
});
const rates = (options: ScheduleOptions, total: number, updates: readonly number[]): number[] =>
  updates.map((update) => learningRateAt(options, total, update));

describe("learning rate schedules", () => {
  test("linear equals the fifty rates that transformers recorded, to the last bit", () => {
    const log = JSON.parse(readFileSync(goldenPath("train-adamw", "train_log.json"), "utf8"));
    const options = schedule("linear", { learningRate: log.learning_rate, warmupSteps: log.warmup_steps });
    const got = log.history.map((entry: { step: number }) => learningRateAt(options, log.max_steps, entry.step - 1));
    expect(got).toEqual(log.history.map((entry: { learning_rate: number }) => entry.learning_rate));
  });

  // By hand from optimization.py: warmup 4 of 12 updates, base rate 2.
  test("linear", () => {
    expect(rates(schedule("linear"), 12, [0, 1, 3, 4, 8, 11, 12, 20])).toEqual([0, 0.5, 1.5, 2, 1, 0.25, 0, 0]);
    expect(rates(schedule("linear", { warmupSteps: 0 }), 4, [0, 1, 4])).toEqual([2, 1.5, 0]);
  });

  test("cosine", () => {
    const got = rates(schedule("cosine"), 12, [0, 2, 4, 6, 8, 12]);
    [0, 1, 2, 1 + Math.SQRT1_2, 1, 0].forEach((want, i) => expect(got[i]).toBeCloseTo(want, 12));
  });

  test("constant has no warmup, constant_with_warmup has", () => {
    expect(rates(schedule("constant"), 12, [0, 3, 11])).toEqual([2, 2, 2]);
    expect(rates(schedule("constant_with_warmup"), 12, [0, 1, 3, 4, 11])).toEqual([0, 0.5, 1.5, 2, 2]);
  });

  test("warmupRatio is rounded up, and warmupSteps wins", () => {
    expect(warmupStepsOf(schedule("linear", { warmupSteps: 0, warmupRatio: 0.1 }), 51)).toBe(6);
    expect(warmupStepsOf(schedule("linear", { warmupRatio: 0.5 }), 50)).toBe(4);
  });

  test("a run that is all warmup never divides by zero", () => {
    expect(rates(schedule("linear"), 4, [3, 4])).toEqual([1.5, 0]);
    expect(rates(schedule("cosine"), 4, [3, 4])).toEqual([1.5, 2]);
  });
});
