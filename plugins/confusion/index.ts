import { ConfusionMatrix, defineMetric, defineOptions, option } from "qlora/core";

const options = defineOptions({
  normalize: option("'none' | 'true' | 'pred' | 'all'", {
    default: "none",
    help: "counts, or shares of the label's rows (true), of the prediction's (pred) or of all",
  }),
});

/**
 * The confusion matrix: `confusion_<label>_<predicted>` for every pair of classes, as `sklearn.metrics.confusion_matrix`
 * of the argmax; shares of nothing are 0. All NaN where a logit is NaN.
 * @example metrics: [confusion()] // eval_confusion_0_0, eval_confusion_0_1 ...
 */
export const confusion = defineMetric({
  name: "confusion",
  options,
  create({ normalize }, { numLabels }) {
    const matrix = new ConfusionMatrix(numLabels);
    const whole = {
      none: () => 1,
      true: (label: number) => matrix.labelCounts[label]!,
      pred: (_label: number, predicted: number) => matrix.predictedCounts[predicted]!,
      all: () => matrix.rows,
    }[normalize];
    const cell = (label: number, predicted: number): number => {
      if (matrix.unpredicted > 0) return Number.NaN;
      const count = matrix.count(label, predicted);
      return count === 0 ? 0 : count / whole(label, predicted);
    };
    return {
      add: (logits, labels) => matrix.add(logits, labels),
      result: () =>
        Object.fromEntries(
          Array.from({ length: numLabels ** 2 }, (_, i) => [Math.floor(i / numLabels), i % numLabels] as const).map(
            ([label, predicted]) => [`confusion_${label}_${predicted}`, cell(label, predicted)],
          ),
        ),
    };
  },
});
