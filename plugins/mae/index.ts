import { defineMetric, defineOptions, eachValueRow } from "qlora/core";

/**
 * Mean absolute error over rows and outputs: `sklearn.metrics.mean_absolute_error`. NaN for no rows or a NaN output.
 * @example task: "regression", metrics: [mae()] // eval_mae
 */
export const mae = defineMetric({
  name: "mae",
  tasks: ["regression"],
  options: defineOptions({}),
  create(_options, { numLabels }) {
    let [sum, count] = [0, 0];
    return {
      add(logits, labels) {
        eachValueRow(logits, labels, numLabels, (row, values) => {
          for (const [i, value] of values.entries()) sum += Math.abs(row[i]! - value);
          count += values.length;
        });
      },
      result: () => ({ mae: sum / count }),
    };
  },
});
