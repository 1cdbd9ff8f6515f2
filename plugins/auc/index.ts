import { defineMetric, defineOptions, eachRow, option, softmaxRows } from "qlora/core";
import { classPairs, rankedAuc } from "./rank.ts";

const options = defineOptions({
  multiClass: option("'ovr' | 'ovo'", {
    default: "ovr",
    help: "more than two classes: each against the rest (ovr), or each against each other (ovo)",
  }),
});

/**
 * Area under the ROC curve of the softmax probabilities: `sklearn.metrics.roc_auc_score`, the macro average over classes
 * (`ovr`) or pairs of classes (`ovo`); with two classes the area for class 1. Equal scores count half.
 * NaN where a class has no rows (it is undefined then) or a logit is NaN.
 * @example metrics: [auc({ multiClass: "ovo" })] // eval_auc
 */
export const auc = defineMetric({
  name: "auc",
  options,
  create({ multiClass }, { numLabels }) {
    const scores = Array.from({ length: numLabels }, (): number[] => []);
    const classes: number[] = [];

    /** Area for class `c` among the rows of `c` and of the classes that `others` takes. */
    const area = (c: number, others: (label: number) => boolean): number => {
      const rows = [...classes.keys()].filter((row) => classes[row] === c || others(classes[row]!));
      return rankedAuc(
        rows.map((row) => scores[c]![row]!),
        rows.map((row) => classes[row] === c),
      );
    };
    const mean = (values: readonly number[]): number => values.reduce((sum, x) => sum + x, 0) / values.length;

    return {
      add(logits, labels) {
        eachRow(logits, labels, numLabels, (row, label) => {
          for (const [c, p] of softmaxRows(row, numLabels).entries()) scores[c]!.push(p);
          classes.push(label);
        });
      },
      result() {
        if (numLabels === 2) return { auc: area(1, (label) => label === 0) };
        if (multiClass === "ovr") return { auc: mean(scores.map((_, c) => area(c, (label) => label !== c))) };
        const pairs = classPairs(numLabels).map(
          ([a, b]) => (area(a, (label) => label === b) + area(b, (label) => label === a)) / 2,
        );
        return { auc: mean(pairs) };
      },
    };
  },
});
