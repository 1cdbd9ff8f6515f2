/** The metric: what it gets, what it gives, and `defineMetric`, which declares one. */
import type { OptionShape } from "../options/options.ts";
import { type Parts, complete } from "./check.ts";
import type { BaseRow } from "./data-format.ts";
import { definePlugin, type Plugin, type PluginDefinition, type TypedPluginFactory } from "./factory.ts";
import { TASKS, type Task } from "./task.ts";

/** What a metric gets. */
export interface MetricContext {
  /** Numbers of a row of logits: classes, outputs of a regression, labels; of a reward model 2, the scores of a pair. */
  readonly numLabels: number;
  /** Default: classification. */
  readonly task?: Task | undefined;
}

/** Folds logits and labels into named numbers; order and batching must not matter. */
export interface Metric {
  /**
   * @param logits [B, numLabels] row-major; of a reward model the score of the chosen answer, then that of the rejected one
   * @param labels [B] classes (of a reward model 0, the chosen answer); of a regression and of multi-label rows
   * [B, numLabels] row-major, what each output should be and 0 or 1 for each label
   * @param rows [B] the rows, with the columns that nothing else reads in `extra`
   */
  add(logits: Float32Array, labels: ArrayLike<number>, rows: readonly BaseRow[]): void;
  /** E.g. `{ log_loss: 0.9371 }`; names appear as `eval_<name>`. */
  result(): Readonly<Record<string, number>>;
}

/** A configured metric, as a config holds it. */
export type MetricPlugin = Plugin<"metric", readonly [MetricContext], Metric>;

/** What a metric's author writes. */
export interface MetricDefinition<S extends OptionShape> extends PluginDefinition<S, readonly [MetricContext], Metric> {
  /** Tasks that it serves; default: classification. */
  readonly tasks?: readonly Task[];
}

/** A metric's factory. */
export interface MetricFactory<S extends OptionShape = OptionShape> extends TypedPluginFactory<
  "metric",
  S,
  readonly [MetricContext],
  Metric
> {
  readonly tasks: readonly Task[];
}

/** Tasks that a metric serves; one made with an earlier qlora says nothing of them. */
export function tasksOf({ factory }: Pick<MetricPlugin, "factory">): readonly Task[] {
  const { tasks } = factory as { readonly tasks?: unknown };
  return Array.isArray(tasks) ? TASKS.filter((task) => tasks.includes(task)) : ["classification"];
}

/**
 * Declares a metric.
 * @example
 * export const topTwo = defineMetric({
 *   name: "top-two",
 *   options: defineOptions({}),
 *   create(_options, { numLabels }) {
 *     let [right, rows] = [0, 0];
 *     return {
 *       add: (logits, labels) =>
 *         eachRow(logits, labels, numLabels, (row, label) => {
 *           rows++;
 *           if (row.filter((value) => value > row[label]!).length < 2) right++;
 *         }),
 *       result: () => ({ top_two: right / rows }),
 *     };
 *   },
 * });
 */
export function defineMetric<const S extends OptionShape>(definition: MetricDefinition<S>): MetricFactory<S> {
  const factory = definePlugin("metric", definition, { parts: { tasks: "list?" }, complete: completeMetric });
  return Object.assign(factory, { tasks: definition.tasks ?? (["classification"] as const) });
}

const METRIC: Parts<Metric> = { add: "function", result: "function" };

/** @throws PluginError */
const completeMetric = (name: string, made: Metric): Metric =>
  complete(made, METRIC, { kind: "metric", name, method: "create" });
