import { defineMetric, defineOptions, eachRow } from "qlora/core";

/** f32's epsilon: scikit-learn clips by the epsilon of the probabilities' dtype, which for model outputs is f32. */
const EPSILON = 2 ** -23;

/** Softmax probability of `label`, in f64. */
function probability(row: Float32Array, label: number): number {
  let peak = -Infinity;
  for (const x of row) peak = Math.max(peak, x); // NaN where any is
  let sum = 0;
  for (const x of row) sum += Math.exp(x - peak);
  return Math.exp(row[label]! - peak) / sum;
}

/**
 * Multi-class log loss (natural logarithm): the mean of -log p[label], with p the softmax of the f32 logits in f64,
 * clipped to [2^-23, 1 - 2^-23]: `sklearn.metrics.log_loss` of f32 probabilities. NaN for no rows or a NaN logit.
 * @example metrics: [logLoss()] // eval_log_loss
 */
export const logLoss = defineMetric({
  name: "log-loss",
  options: defineOptions({}),
  create(_options, { numLabels }) {
    let sum = 0;
    let rows = 0;
    return {
      add(logits, labels) {
        eachRow(logits, labels, numLabels, (row, label) => {
          sum -= Math.log(Math.min(Math.max(probability(row, label), EPSILON), 1 - EPSILON));
          rows++;
        });
      },
      result: () => ({ log_loss: sum / rows }),
    };
  },
});
