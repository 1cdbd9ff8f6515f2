import { defineMetric, defineOptions, eachRow, softmaxRows } from "qlora/core";

/**
 * Brier score: the mean over rows of the squared distance between the softmax probabilities and the label's unit vector,
 * 0 (best) to 2; with two classes half of it, so 0 to 1: `sklearn.metrics.brier_score_loss` (scale_by_half "auto").
 * NaN for no rows or a NaN logit. Source: Brier, Monthly Weather Review 78 (1950).
 * @example metrics: [brier()] // eval_brier
 */
export const brier = defineMetric({
  name: "brier",
  options: defineOptions({}),
  create(_options, { numLabels }) {
    const scale = numLabels === 2 ? 0.5 : 1;
    let sum = 0;
    let rows = 0;
    return {
      add(logits, labels) {
        eachRow(logits, labels, numLabels, (row, label) => {
          for (const [c, p] of softmaxRows(row, numLabels).entries()) sum += (p - (c === label ? 1 : 0)) ** 2;
          rows++;
        });
      },
      result: () => ({ brier: (scale * sum) / rows }),
    };
  },
});
