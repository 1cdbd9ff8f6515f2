import { defineMetric, defineOptions, OutputColumns, pearsonCorrelation } from "qlora/core";

/**
 * Pearson's correlation of outputs and targets: `scipy.stats.pearsonr`, the mean over the outputs where there are several.
 * NaN where an output or its target is the same in every row, or a NaN is among them.
 * @example task: "regression", metrics: [pearson()] // eval_pearson
 */
export const pearson = defineMetric({
  name: "pearson",
  tasks: ["regression"],
  options: defineOptions({}),
  create(_options, { numLabels }) {
    const columns = new OutputColumns(numLabels);
    return {
      add: (logits, labels) => columns.add(logits, labels),
      result: () => ({ pearson: columns.mean(pearsonCorrelation) }),
    };
  },
});
