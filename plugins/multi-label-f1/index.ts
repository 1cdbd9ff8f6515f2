import { ConfigError, defineMetric, defineOptions, eachValueRow, option } from "qlora/core";

const options = defineOptions(
  {
    thresholds: option("number[]", {
      default: [0.5],
      help: "probability from which on a label is predicted: one for all labels, or one for each",
    }),
  },
  ({ thresholds }) =>
    thresholds.every((value) => value > 0 && value < 1)
      ? []
      : [`thresholds: got ${thresholds.join(", ")}, expected numbers between 0 and 1`],
);

/**
 * F1 of several labels at once: `sklearn.metrics.f1_score` of the labels whose probability reaches their threshold, over all of
 * them together (micro) and as the mean over labels (macro), and the share of rows with every label right. A label that is
 * neither there nor predicted counts 0, as scikit-learn has it. NaN for no rows or a NaN logit.
 * @example task: "multi-label", metrics: [multiLabelF1({ thresholds: [0.5] })] // eval_f1_micro, eval_f1_macro, eval_exact_match
 */
export const multiLabelF1 = defineMetric({
  name: "multi-label-f1",
  tasks: ["multi-label"],
  options,
  create({ thresholds }, { numLabels }) {
    if (thresholds.length !== 1 && thresholds.length !== numLabels) {
      throw new ConfigError(
        "METRIC_OPTIONS",
        `metric multi-label-f1: got ${thresholds.length} thresholds, expected one, or one for each of ${numLabels} labels`,
      );
    }
    // A probability reaches p where its logit reaches log(p / (1 - p)).
    const least = Array.from({ length: numLabels }, (_, i) => {
      const p = thresholds[thresholds.length === 1 ? 0 : i]!;
      return Math.log(p / (1 - p));
    });
    const counts = () => new Float64Array(numLabels);
    const [hits, predicted, there] = [counts(), counts(), counts()];
    let [rows, exact, broken] = [0, 0, 0];
    const f1 = (hit: number, all: number): number => (all === 0 ? 0 : (2 * hit) / all);
    const sum = (values: Float64Array): number => values.reduce((total, value) => total + value, 0);
    return {
      add(logits, labels) {
        eachValueRow(logits, labels, numLabels, (row, values) => {
          rows++;
          if (row.some(Number.isNaN)) broken++;
          let right = true;
          for (const [i, value] of values.entries()) {
            const guess = row[i]! >= least[i]!;
            const is = value === 1;
            if (guess) predicted[i]!++;
            if (is) there[i]!++;
            if (guess && is) hits[i]!++;
            right &&= guess === is;
          }
          if (right) exact++;
        });
      },
      result() {
        if (rows === 0 || broken > 0) return { f1_micro: Number.NaN, f1_macro: Number.NaN, exact_match: Number.NaN };
        const each = hits.map((hit, i) => f1(hit, predicted[i]! + there[i]!));
        return {
          f1_micro: f1(sum(hits), sum(predicted) + sum(there)),
          f1_macro: sum(each) / numLabels,
          exact_match: exact / rows,
        };
      },
    };
  },
});
