import { averageRanks, defineMetric, defineOptions, OutputColumns, pearsonCorrelation } from "qlora/core";

/**
 * Spearman's rank correlation of outputs and targets: `scipy.stats.spearmanr`, the mean over the outputs where there are several;
 * equal values share the mean of their ranks. NaN where an output or its target is the same in every row, or a NaN is among them.
 * @example task: "regression", metrics: [spearman()] // eval_spearman
 */
export const spearman = defineMetric({
  name: "spearman",
  tasks: ["regression"],
  options: defineOptions({}),
  create(_options, { numLabels }) {
    const columns = new OutputColumns(numLabels);
    const ranked = (outputs: readonly number[], targets: readonly number[]): number =>
      pearsonCorrelation(averageRanks(outputs), averageRanks(targets));
    return {
      add: (logits, labels) => columns.add(logits, labels),
      result: () => ({ spearman: columns.mean(ranked) }),
    };
  },
});
