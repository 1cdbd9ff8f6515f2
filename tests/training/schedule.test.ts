import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { defineOptions, defineSchedule } from "../../core/index.ts";
import { SCHEDULE_NAMES, scheduleFactory, type LrSchedulerType } from "../../runtime/config/schedules.ts";
import { trainingOptions } from "../../runtime/config/training-options.ts";
import { createSchedule, type ScheduleOptions, warmupStepsOf } from "../../runtime/training/schedule.ts";
import { ContractError, scheduleContract } from "../../testing/index.ts";
import { goldenPath } from "../support/reference.ts";

const options = (lrSchedulerType: LrSchedulerType, rest: Partial<ScheduleOptions> = {}): ScheduleOptions => ({
  learningRate: 2,
  lrSchedulerType,
  lrSchedulerKwargs: {},
  warmupSteps: 4,
  warmupRatio: 0,
  ...rest,
});
const rates = (training: ScheduleOptions, total: number, updates: readonly number[]): number[] => {
  const schedule = createSchedule({ training }, total);
  return updates.map((update) => training.learningRate * schedule.factor(update));
};

interface Recorded {
  readonly learning_rate: number;
  readonly num_warmup_steps: number;
  readonly num_training_steps: number;
  readonly schedules: Readonly<Record<LrSchedulerType, { kwargs: object; learning_rates: readonly number[] }>>;
}
const recorded = JSON.parse(readFileSync(goldenPath("turn2", "schedules.json"), "utf8")) as Recorded;

describe("learning rate schedules", () => {
  test("linear equals the fifty rates that transformers recorded, to the last bit", () => {
    const log = JSON.parse(readFileSync(goldenPath("train-adamw", "train_log.json"), "utf8"));
    const linear = options("linear", { learningRate: log.learning_rate, warmupSteps: log.warmup_steps });
    const updates = log.history.map((entry: { step: number }) => entry.step - 1);
    expect(rates(linear, log.max_steps, updates)).toEqual(
      log.history.map((entry: { learning_rate: number }) => entry.learning_rate),
    );
  });

  for (const [type, { kwargs, learning_rates: wanted }] of Object.entries(recorded.schedules)) {
    test(`${type} ${JSON.stringify(kwargs)} equals what transformers 5.17 recorded within 1e-12`, () => {
      expect(wanted).toHaveLength(100);
      const training = options(type as LrSchedulerType, {
        learningRate: recorded.learning_rate,
        warmupSteps: recorded.num_warmup_steps,
        lrSchedulerKwargs: kwargs,
      });
      const updates = wanted.map((_, update) => update);
      rates(training, recorded.num_training_steps, updates).forEach((rate, update) => {
        expect(Math.abs(rate - wanted[update]!), `update ${update}: ${rate}, not ${wanted[update]}`).toBeLessThan(
          1e-12,
        );
      });
    });
  }

  // By hand from get_cosine_with_min_lr_schedule_with_warmup_lr_rate of optimization.py: warmup 4 of 12 updates, base rate 2.
  test("cosine_warmup_with_min_lr begins above 0 and is a step ahead", () => {
    const ahead = options("cosine_warmup_with_min_lr", { lrSchedulerKwargs: { min_lr_rate: 0.5 } });
    [0.5, 1, 2, 1.5 + 0.5 * Math.cos(Math.PI / 8), 1.5, 1].forEach((want, i) =>
      expect(rates(ahead, 12, [0, 1, 3, 4, 7, 11])[i]).toBeCloseTo(want, 12),
    );
    const from = options("cosine_warmup_with_min_lr", { lrSchedulerKwargs: { minLr: 1, warmupLrRate: 0.25 } });
    expect(rates(from, 12, [0, 1, 3])).toEqual([0.5, 1, 2]);
  });

  test("names and kwargs are those of transformers, in either spelling", () => {
    for (const name of SCHEDULE_NAMES) expect(scheduleFactory(name).name).toBe(name);
    const snake = options("cosine_with_restarts", { lrSchedulerKwargs: { num_cycles: 3 } });
    const camel = options("cosine_with_restarts", { lrSchedulerKwargs: { numCycles: 3 } });
    expect(rates(snake, 40, [9, 20, 33])).toEqual(rates(camel, 40, [9, 20, 33]));
  });

  // By hand from optimization.py: warmup 4 of 12 updates, base rate 2.
  test("linear", () => {
    expect(rates(options("linear"), 12, [0, 1, 3, 4, 8, 11, 12, 20])).toEqual([0, 0.5, 1.5, 2, 1, 0.25, 0, 0]);
    expect(rates(options("linear", { warmupSteps: 0 }), 4, [0, 1, 4])).toEqual([2, 1.5, 0]);
  });

  test("cosine", () => {
    const got = rates(options("cosine"), 12, [0, 2, 4, 6, 8, 12]);
    [0, 1, 2, 1 + Math.SQRT1_2, 1, 0].forEach((want, i) => expect(got[i]).toBeCloseTo(want, 12));
  });

  test("constant has no warmup, constant_with_warmup has", () => {
    expect(rates(options("constant"), 12, [0, 3, 11])).toEqual([2, 2, 2]);
    expect(rates(options("constant_with_warmup"), 12, [0, 1, 3, 4, 11])).toEqual([0, 0.5, 1.5, 2, 2]);
  });

  test("warmup is a count, or a share of all steps rounded up; warmupSteps wins over warmupRatio", () => {
    expect(warmupStepsOf({ warmupSteps: 0, warmupRatio: 0.1 }, 51)).toBe(6);
    expect(warmupStepsOf({ warmupSteps: 0.1, warmupRatio: 0 }, 51)).toBe(6);
    expect(warmupStepsOf({ warmupSteps: 4, warmupRatio: 0.5 }, 50)).toBe(4);
    expect(warmupStepsOf({ warmupSteps: 1, warmupRatio: 0.5 }, 50)).toBe(1);
  });

  test("a run that is all warmup never divides by zero", () => {
    expect(rates(options("linear"), 4, [3, 4])).toEqual([1.5, 0]);
    expect(rates(options("cosine"), 4, [3, 4])).toEqual([1.5, 2]);
    expect(rates(options("polynomial", { lrSchedulerKwargs: { lrEnd: 1 } }), 4, [3, 4])).toEqual([1.5, 2]);
  });
});

describe("what does not fit is told", () => {
  const problems = (input: object): readonly string[] => {
    const checked = trainingOptions.check(input, "training");
    return checked.ok ? [] : checked.problems;
  };

  test("by the config, with the schedule's name", () => {
    expect(problems({ lrSchedulerType: "cosine", lrSchedulerKwargs: { num_cycle: 2 } })).toEqual([
      'training.lrSchedulerKwargs.numCycle: unknown option; did you mean "numCycles"? (lrSchedulerType cosine)',
    ]);
    expect(problems({ lrSchedulerType: "warmup_stable_decay" })).toEqual([
      "training.lrSchedulerKwargs.numDecaySteps: got nothing, expected an integer >= 0 (lrSchedulerType warmup_stable_decay)",
    ]);
    expect(problems({ lrSchedulerType: "cosine_with_min_lr" })).toEqual([
      "training.lrSchedulerKwargs.minLr: got neither it nor minLrRate, expected one of them (lrSchedulerType cosine_with_min_lr)",
    ]);
    expect(problems({ warmupSteps: 2.5 })).toEqual([
      "training.warmupSteps: got 2.5, expected a whole number, or a share below 1",
    ]);
  });

  test("by the run, where it depends on the rate", () => {
    const training = options("polynomial", { lrSchedulerKwargs: { lr_end: 2 } });
    expect(() => createSchedule({ training }, 10)).toThrow(
      "training.lrSchedulerKwargs.lrEnd: got 2, expected less than learningRate, 2",
    );
  });

  test("a schedule of one's own that gives no number", () => {
    const broken = defineSchedule({
      name: "broken",
      options: defineOptions({}),
      create: (_options, { totalSteps }) => ({ factor: (updates) => Math.sqrt(totalSteps - 5 - updates) }),
    });
    const schedule = createSchedule({ schedule: broken(), training: options("linear") }, 10);
    expect(schedule.factor(1)).toBe(2);
    expect(() => schedule.factor(6)).toThrow("schedule broken: factor(6) gives NaN, expected a number >= 0");
  });
});

describe("the contract", () => {
  const kwargs: Partial<Record<LrSchedulerType, object>> = {
    polynomial: { power: 2, lrEnd: 1e-5 },
    cosine_with_restarts: { numCycles: 3 },
    cosine_with_min_lr: { minLr: 1e-5 },
    cosine_warmup_with_min_lr: { minLrRate: 0.1, warmupLrRate: 0.5 },
    warmup_stable_decay: { numDecaySteps: 3, decayType: "1-sqrt", warmupType: "cosine" },
  };
  for (const type of SCHEDULE_NAMES) {
    for (const { name, run } of scheduleContract(scheduleFactory(type).configure(kwargs[type] ?? {})))
      test(`${type}: ${name}`, run);
  }

  const planted = (name: string, factor: () => (updates: number) => number) =>
    scheduleContract(defineSchedule({ name, options: defineOptions({}), create: () => ({ factor: factor() }) })());
  const outcome = async (checks: ReturnType<typeof planted>): Promise<readonly string[]> => {
    const failed: string[] = [];
    for (const { name, run } of checks) {
      try {
        await run();
      } catch (error) {
        if (!(error instanceof ContractError)) throw error;
        failed.push(`${name}: ${error.message}`);
      }
    }
    return failed;
  };

  test("catches a factor that counts its calls, one below 0, and one that never trains", async () => {
    const counting = () => {
      let calls = 0;
      return () => 1 / ++calls;
    };
    expect((await outcome(planted("counting", counting))).join()).toContain("it keeps something between calls");
    expect((await outcome(planted("negative", () => (updates) => 1 - updates))).join()).toContain("factor(2) is -1");
    expect((await outcome(planted("zero", () => () => 0))).join()).toContain("the factor is 0 for every update");
  });
});
