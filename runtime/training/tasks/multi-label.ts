import { binaryCrossEntropy } from "../../../kernels/binary-cross-entropy/index.ts";
import type { TaskKind } from "./task.ts";
import { countValues, valuesLoss, valuesOf } from "./values.ts";

/** log(1 + e^x) without overflow. */
export const softplus = (x: number): number => (x > 0 ? x : 0) + Math.log1p(Math.exp(-Math.abs(x)));

/** Any of several labels, by binary cross entropy; predictions are the probability of each. */
export const multiLabel: TaskKind = {
  name: "multi-label",
  rowsPerSample: 1,
  labels: ({ labelColumns: columns }) => ({ columns, binary: true }),
  countOutputs: countValues,
  loss: (rows) => valuesLoss(rows, binaryCrossEntropy),
  score(logits, rows, numLabels) {
    const labels = valuesOf(rows);
    const entropies = labels.reduce((sum, value, i) => sum + softplus(logits[i]!) - logits[i]! * value, 0);
    return { logits, labels, numLabels, loss: entropies / labels.length };
  },
  sample(numLabels) {
    const labels = Array.from({ length: 2 * numLabels }, (_, i) => i % 2);
    return { logits: new Float32Array(labels.length), labels, numLabels, loss: 0 };
  },
  predictions: (logits) => Float64Array.from(logits, (value) => 1 / (1 + Math.exp(-value))),
};
