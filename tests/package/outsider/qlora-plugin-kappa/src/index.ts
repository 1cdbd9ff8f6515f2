import { ConfusionMatrix, defineMetric, defineOptions, option } from "qlora/core";

const options = defineOptions({
  weights: option("'none' | 'linear' | 'quadratic'", {
    default: "none",
    help: "how much a miss by more than one class counts",
  }),
});

/** Cohen's kappa of the predicted class, as sklearn.metrics.cohen_kappa_score. NaN for no rows, a NaN logit, or one class alone. */
export const kappa = defineMetric({
  name: "kappa",
  options,
  create({ weights }, { numLabels }) {
    const matrix = new ConfusionMatrix(numLabels);
    const cost = (i: number, k: number) =>
      weights === "none" ? Number(i !== k) : Math.abs(i - k) ** (weights === "linear" ? 1 : 2);
    return {
      add: (logits, labels) => matrix.add(logits, labels),
      result() {
        const { labelCounts, predictedCounts, rows } = matrix;
        let [observed, expected] = [0, 0];
        for (let i = 0; i < numLabels; i++)
          for (let k = 0; k < numLabels; k++) {
            observed += cost(i, k) * matrix.count(i, k);
            expected += (cost(i, k) * labelCounts[i]! * predictedCounts[k]!) / rows;
          }
        return { kappa: matrix.unpredicted > 0 ? Number.NaN : 1 - observed / expected };
      },
    };
  },
});
