import { bradleyTerry } from "../../../kernels/bradley-terry/index.ts";
import { softplus } from "./multi-label.ts";
import type { TaskKind } from "./task.ts";

/** A score by which the better of two answers wins, by Bradley-Terry: trl's RewardTrainer. Rows come in pairs, the chosen answer first. */
export const reward: TaskKind = {
  name: "reward",
  rowsPerSample: 2,
  labels: () => undefined,
  countOutputs: () => 1,
  loss: (rows, { centerRewardsCoefficient: center }) => ({
    rows: 2,
    shape: (count) => [count / 2],
    values(samples) {
      samples.forEach(({ index }, i) => {
        const pair = rows.length > 0 && i % 2 === 1 ? samples[i - 1]!.index : undefined;
        if (pair !== undefined && (pair % 2 !== 0 || index !== pair + 1))
          throw new RangeError(
            `rows ${pair} and ${index} are no pair: give both answers of a pair, the chosen one first`,
          );
      });
      return new Float32Array(samples.length / 2);
    },
    record: (tape, scores, margins) => bradleyTerry(tape, scores, margins, center),
  }),
  score(logits, rows) {
    const pairs = rows.length / 2;
    let total = 0;
    for (let p = 0; p < pairs; p++) total += softplus(logits[2 * p + 1]! - logits[2 * p]!);
    return { logits, labels: new Array<number>(pairs).fill(0), numLabels: 2, loss: total / pairs };
  },
  sample: () => ({ logits: Float32Array.of(1, 0, 0, 1), labels: [0, 0], numLabels: 2, loss: 0 }),
  predictions: (logits) => logits,
};
