import { ConfigError, ConfusionMatrix, defineMetric, defineOptions, option } from "qlora/core";

const options = defineOptions({
  average: option("'macro' | 'micro' | 'weighted' | 'binary'", {
    default: "macro",
    help: "mean over classes, over rows, over classes by their rows, or class 1 of two",
  }),
});

/**
 * F1, the harmonic mean of precision and recall: `sklearn.metrics.f1_score` of the argmax. A class that neither a label
 * nor a prediction names is left out of the averages; one that is never right counts 0. NaN for no rows or a NaN logit.
 * @example metrics: [f1({ average: "weighted" })] // eval_f1
 */
export const f1 = defineMetric({
  name: "f1",
  options,
  create({ average }, { numLabels }) {
    if (average === "binary" && numLabels !== 2) {
      throw new ConfigError(
        "METRIC_OPTIONS",
        `metric f1: average "binary" is for 2 classes, the data has ${numLabels}`,
        {
          hint: 'Use "macro", "micro" or "weighted".',
        },
      );
    }
    const matrix = new ConfusionMatrix(numLabels);
    return {
      add: (logits, labels) => matrix.add(logits, labels),
      result: () => ({ f1: matrix.unpredicted > 0 || matrix.rows === 0 ? Number.NaN : averaged(matrix, average) }),
    };
  },
});

function averaged(matrix: ConfusionMatrix, average: "macro" | "micro" | "weighted" | "binary"): number {
  const { labelCounts, predictedCounts, correctCounts, rows } = matrix;
  if (average === "micro") return correctCounts.reduce((sum, n) => sum + n, 0) / rows;
  const support = labelCounts.map((n, c) => n + predictedCounts[c]!);
  const scores = correctCounts.map((n, c) => (support[c] === 0 ? 0 : (2 * n) / support[c]!));
  if (average === "binary") return scores[1]!;
  if (average === "weighted") return scores.reduce((sum, score, c) => sum + (score * labelCounts[c]!) / rows, 0);
  return scores.reduce((sum, score) => sum + score, 0) / support.filter((n) => n > 0).length;
}
