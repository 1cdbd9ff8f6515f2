import { eachRow } from "../../core/metric-rows.ts";
import { defineOptions } from "../../core/options.ts";
import { defineMetric } from "../../core/plugin.ts";

/** The first class with the highest logit, as numpy's argmax; -1 where a logit is NaN. */
function predicted(row: Float32Array): number {
  let best = 0;
  for (const [i, x] of row.entries()) {
    if (Number.isNaN(x)) return -1;
    if (x > row[best]!) best = i;
  }
  return best;
}

/**
 * Share of rows whose highest logit is the label's; the first class wins a tie, a row with a NaN is wrong.
 * `sklearn.metrics.accuracy_score` of the argmax. NaN for no rows.
 * @example metrics: [accuracy()] // eval_accuracy
 */
export const accuracy = defineMetric({
  name: "accuracy",
  options: defineOptions({}),
  create(_options, { numLabels }) {
    let correct = 0;
    let rows = 0;
    return {
      add(logits, labels) {
        eachRow(logits, labels, numLabels, (row, label) => {
          if (predicted(row) === label) correct++;
          rows++;
        });
      },
      result: () => ({ accuracy: correct / rows }),
    };
  },
});
