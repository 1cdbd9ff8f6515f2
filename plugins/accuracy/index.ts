import { defineMetric, defineOptions, eachRow, predictedClass } from "qlora/core";

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
          if (predictedClass(row) === label) correct++;
          rows++;
        });
      },
      result: () => ({ accuracy: correct / rows }),
    };
  },
});
