/** The learning-rate schedule: what it gets, what it gives, and `defineSchedule`, which declares one. */
import type { OptionShape } from "../options/options.ts";
import { type Parts, complete } from "./check.ts";
import { definePlugin, type Plugin, type PluginDefinition, type TypedPluginFactory } from "./factory.ts";

/** What a schedule gets. */
export interface ScheduleContext {
  /** The peak, `training.learningRate`. */
  readonly learningRate: number;
  /** Updates of warmup, as the training options say. */
  readonly warmupSteps: number;
  /** Updates of the whole run. */
  readonly totalSteps: number;
}

/** A factor of the learning rate for each update, as torch's LambdaLR has it; every group's own rate is multiplied by it. */
export interface Schedule {
  /** Must depend on nothing else, so that a resumed run goes on alike. @param updates done before: 0 for the first */
  factor(updates: number): number;
}

/** A configured schedule, as a config holds it. */
export type SchedulePlugin = Plugin<"schedule", readonly [ScheduleContext], Schedule>;

/**
 * Declares a learning-rate schedule, the value of a config's `schedule`, which stands in place of `training.lrSchedulerType`.
 * @example
 * export const halving = defineSchedule({
 *   name: "halving",
 *   options: defineOptions({ every: option("number.integer >= 1", { default: 100, help: "updates between halvings" }) }),
 *   create: ({ every }, { warmupSteps }) => ({
 *     factor: (updates) => (updates < warmupSteps ? updates / warmupSteps : 0.5 ** Math.floor((updates - warmupSteps) / every)),
 *   }),
 * });
 */
export function defineSchedule<const S extends OptionShape>(
  definition: PluginDefinition<S, readonly [ScheduleContext], Schedule>,
): TypedPluginFactory<"schedule", S, readonly [ScheduleContext], Schedule> {
  return definePlugin("schedule", definition, { complete: completeSchedule });
}

const SCHEDULE: Parts<Schedule> = { factor: "function" };

/** @throws PluginError */
const completeSchedule = (name: string, made: Schedule): Schedule =>
  complete(made, SCHEDULE, { kind: "schedule", name, method: "create" });
