import { meanSquaredError } from "../../../kernels/mean-squared-error/index.ts";
import type { TaskKind } from "./task.ts";
import { countValues, valuesLoss, valuesOf } from "./values.ts";

/** Rows that are enough to try a metric on: correlations want some that differ. */
const TRIED_ROWS = 3;

/** One number or several, by mean squared error; predictions are the numbers themselves. */
export const regression: TaskKind = {
  name: "regression",
  rowsPerSample: 1,
  labels: ({ labelColumns: columns }) => ({ columns, binary: false }),
  countOutputs: countValues,
  loss: (rows) => valuesLoss(rows, meanSquaredError),
  score(logits, rows, numLabels) {
    const labels = valuesOf(rows);
    const squares = labels.reduce((sum, value, i) => sum + (logits[i]! - value) ** 2, 0);
    return { logits, labels, numLabels, loss: squares / labels.length };
  },
  sample(numLabels) {
    const labels = Array.from({ length: TRIED_ROWS * numLabels }, (_, i) => i);
    return { logits: Float32Array.from(labels), labels, numLabels, loss: 0 };
  },
  predictions: (logits) => logits,
};
