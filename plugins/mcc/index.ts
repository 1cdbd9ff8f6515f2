import { ConfusionMatrix, defineMetric, defineOptions } from "qlora/core";

const dot = (a: readonly number[], b: readonly number[]): number => a.reduce((sum, x, i) => sum + x * b[i]!, 0);

/**
 * Matthews' correlation of labels and predictions, -1 to 1: `sklearn.metrics.matthews_corrcoef` of the argmax, for any
 * number of classes; 0 where all labels or all predictions are of one class. NaN for no rows or a NaN logit.
 * Source: Gorodkin, Computational Biology and Chemistry 28 (2004).
 * @example metrics: [mcc()] // eval_mcc
 */
export const mcc = defineMetric({
  name: "mcc",
  options: defineOptions({}),
  create(_options, { numLabels }) {
    const matrix = new ConfusionMatrix(numLabels);
    return {
      add: (logits, labels) => matrix.add(logits, labels),
      result() {
        const { labelCounts, predictedCounts, correctCounts, rows } = matrix;
        if (matrix.unpredicted > 0 || rows === 0) return { mcc: Number.NaN };
        const right = correctCounts.reduce((sum, n) => sum + n, 0);
        const covariance = right * rows - dot(labelCounts, predictedCounts);
        const spread =
          (rows ** 2 - dot(labelCounts, labelCounts)) * (rows ** 2 - dot(predictedCounts, predictedCounts));
        return { mcc: spread === 0 ? 0 : covariance / Math.sqrt(spread) };
      },
    };
  },
});
