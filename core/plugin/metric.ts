/** The metric: what it gets, what it gives, and `defineMetric`, which declares one. */
import type { OptionShape } from "../options/options.ts";
import { type Parts, complete } from "./check.ts";
import { definePlugin, type Plugin, type PluginDefinition, type TypedPluginFactory } from "./factory.ts";

/** What a metric gets. */
export interface MetricContext {
  readonly numLabels: number;
}

/** Folds logits and labels into named numbers; order and batching must not matter. */
export interface Metric {
  /** @param logits [B, numLabels] row-major; @param labels [B] */
  add(logits: Float32Array, labels: ArrayLike<number>): void;
  /** E.g. `{ log_loss: 0.9371 }`; names appear as `eval_<name>`. */
  result(): Readonly<Record<string, number>>;
}

/** A configured metric, as a config holds it. */
export type MetricPlugin = Plugin<"metric", readonly [MetricContext], Metric>;

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
export function defineMetric<const S extends OptionShape>(
  definition: PluginDefinition<S, readonly [MetricContext], Metric>,
): TypedPluginFactory<"metric", S, readonly [MetricContext], Metric> {
  return definePlugin("metric", definition, { complete: completeMetric });
}

const METRIC: Parts<Metric> = { add: "function", result: "function" };

/** @throws PluginError */
const completeMetric = (name: string, made: Metric): Metric =>
  complete(made, METRIC, { kind: "metric", name, method: "create" });
