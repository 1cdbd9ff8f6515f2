/** Learning rates by update: a base rate times the schedule's factor of the updates done before, in f64. */
import { PluginError } from "../../core/errors.ts";
import type { Schedule, SchedulePlugin } from "../../core/plugin/schedule.ts";
import { camelKeys, type LrSchedulerType, scheduleFactory } from "../config/schedules.ts";

/** What a schedule depends on; a part of the training options. */
export interface ScheduleOptions {
  readonly learningRate: number;
  readonly lrSchedulerType: LrSchedulerType;
  readonly lrSchedulerKwargs: object;
  /** Updates of linear warmup, or below 1 their share of all; where it is 0, `warmupRatio` decides. */
  readonly warmupSteps: number;
  /** Warmup as a share of all updates, rounded up. */
  readonly warmupRatio: number;
}

/** Updates of warmup in a run of `totalSteps`. */
export function warmupStepsOf(
  { warmupSteps, warmupRatio }: Pick<ScheduleOptions, "warmupSteps" | "warmupRatio">,
  totalSteps: number,
): number {
  if (warmupSteps >= 1) return warmupSteps;
  return Math.ceil(totalSteps * (warmupSteps > 0 ? warmupSteps : warmupRatio));
}

/**
 * The schedule of a run: the config's own, or the one that `training.lrSchedulerType` names.
 * @throws ConfigError where its options do not fit the rate; its `factor` throws PluginError where it gives none
 */
export function createSchedule(
  { schedule, training }: { readonly schedule?: SchedulePlugin | undefined; readonly training: ScheduleOptions },
  totalSteps: number,
): Schedule {
  const { learningRate, lrSchedulerType, lrSchedulerKwargs } = training;
  const plugin: SchedulePlugin = schedule ?? scheduleFactory(lrSchedulerType).configure(camelKeys(lrSchedulerKwargs));
  const made = plugin.create({ learningRate, warmupSteps: warmupStepsOf(training, totalSteps), totalSteps });
  return {
    factor(updates) {
      const factor = made.factor(updates);
      if (Number.isFinite(factor) && factor >= 0) return factor;
      const message = `schedule ${plugin.name}: factor(${updates}) gives ${String(factor)}, expected a number >= 0`;
      throw new PluginError("SCHEDULE_RESULT", message);
    },
  };
}
