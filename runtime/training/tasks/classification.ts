import { negativeLogLikelihood, softmaxRows } from "../../../core/plugin/metric-rows.ts";
import { countLabels } from "../../data/labels.ts";
import type { Scored, TaskKind } from "./task.ts";

/** Logits with the classes of their rows. */
export function scoredClasses(logits: Float32Array, labels: readonly number[], numLabels: number): Scored {
  let total = 0;
  labels.forEach((label, i) => {
    total += negativeLogLikelihood(logits.subarray(i * numLabels, (i + 1) * numLabels), label);
  });
  return { logits, labels, numLabels, loss: total / labels.length };
}

/** More classes than this are not tried. */
const TRIED_CLASSES = 256;

/** One class of several. */
export const classification: TaskKind = {
  name: "classification",
  rowsPerSample: 1,
  labels: () => undefined,
  countOutputs: countLabels,
  score: (logits, rows, numLabels) =>
    scoredClasses(
      logits,
      rows.map((row) => row.label!),
      numLabels,
    ),
  sample(numLabels) {
    const labels = Array.from({ length: numLabels > TRIED_CLASSES ? 0 : numLabels }, (_, label) => label);
    return { logits: new Float32Array(labels.length * numLabels), labels, numLabels, loss: 0 };
  },
  predictions: softmaxRows,
};
