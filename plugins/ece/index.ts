import { defineMetric, defineOptions, eachRow, option, predictedClass, softmaxRows } from "qlora/core";

const options = defineOptions({
  bins: option("number.integer >= 1", { default: 15, help: "bins of equal width that confidences are sorted into" }),
});

/**
 * Expected calibration error: rows are sorted by confidence (the highest softmax probability) into bins (k/n, (k+1)/n];
 * the mean over rows of |accuracy - mean confidence| of the row's bin. NaN for no rows or a NaN logit.
 * Source: Guo et al., On Calibration of Modern Neural Networks (arXiv 1706.04599), section 2.
 * @example metrics: [ece({ bins: 10 })] // eval_ece
 */
export const ece = defineMetric({
  name: "ece",
  options,
  create({ bins }, { numLabels }) {
    /** Per bin: right rows minus the sum of confidences. */
    const gaps = new Float64Array(bins);
    let rows = 0;
    let undefinedRows = 0;
    return {
      add(logits, labels) {
        eachRow(logits, labels, numLabels, (row, label) => {
          rows++;
          const best = predictedClass(row);
          const confidence = softmaxRows(row, numLabels)[best] ?? Number.NaN;
          if (Number.isNaN(confidence)) undefinedRows++;
          else gaps[Math.min(bins, Math.ceil(confidence * bins)) - 1]! += (best === label ? 1 : 0) - confidence;
        });
      },
      result: () => ({
        ece: undefinedRows > 0 ? Number.NaN : gaps.reduce((sum, gap) => sum + Math.abs(gap), 0) / rows,
      }),
    };
  },
});
