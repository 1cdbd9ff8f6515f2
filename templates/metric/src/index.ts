import { defineMetric, defineOptions, eachRow, option } from "qlora/core";

const options = defineOptions({
  k: option("number.integer >= 1", {
    default: 2,
    help: "a row counts as right where its label is among the k highest",
  }),
});

/**
 * Share of rows whose label is among the k highest logits; of equal ones the first is the higher. NaN for no rows or a NaN
 * logit.
 * @example metrics: [logLoss(), myPlugin({ k: 2 })] // eval_my_plugin
 */
export const myPlugin = defineMetric({
  name: "my-plugin",
  options,
  create({ k }, { numLabels }) {
    let [rows, right, broken] = [0, 0, false];
    return {
      add(logits, labels) {
        eachRow(logits, labels, numLabels, (row, label) => {
          rows++;
          broken ||= row.some(Number.isNaN);
          const own = row[label]!;
          const above = row.reduce((count, x, c) => count + (x > own || (x === own && c < label) ? 1 : 0), 0);
          if (above < k) right++;
        });
      },
      result: () => ({ my_plugin: rows === 0 || broken ? Number.NaN : right / rows }),
    };
  },
});
