import { defineMetric, defineOptions, eachValueRow } from "qlora/core";

/**
 * Mean squared error over rows and outputs, and its root: `sklearn.metrics.mean_squared_error`. NaN for no rows or a NaN output.
 * @example task: "regression", metrics: [mse()] // eval_mse, eval_rmse
 */
export const mse = defineMetric({
  name: "mse",
  tasks: ["regression"],
  options: defineOptions({}),
  create(_options, { numLabels }) {
    let [sum, count] = [0, 0];
    return {
      add(logits, labels) {
        eachValueRow(logits, labels, numLabels, (row, values) => {
          for (const [i, value] of values.entries()) sum += (row[i]! - value) ** 2;
          count += values.length;
        });
      },
      result: () => ({ mse: sum / count, rmse: Math.sqrt(sum / count) }),
    };
  },
});
