import { defineMetric, defineOptions, eachRow } from "qlora/core";

/**
 * Share of pairs whose chosen answer has the higher score, the mean difference of the two, and the mean of all scores: what
 * trl's RewardTrainer logs as accuracy, margin and mean_reward. A pair of equal scores is wrong; all are NaN for no pairs.
 * @example task: "reward", metrics: [pairAccuracy()] // eval_pair_accuracy, eval_margin, eval_mean_reward
 */
export const pairAccuracy = defineMetric({
  name: "pair-accuracy",
  tasks: ["reward"],
  options: defineOptions({}),
  create(_options, { numLabels }) {
    let [right, margins, scores, pairs] = [0, 0, 0, 0];
    return {
      add(logits, labels) {
        eachRow(logits, labels, numLabels, (row, label) => {
          const [chosen, rejected] = [row[label]!, row[1 - label]!];
          pairs++;
          if (chosen > rejected) right++;
          margins += chosen - rejected;
          scores += chosen + rejected;
        });
      },
      result: () => ({ pair_accuracy: right / pairs, margin: margins / pairs, mean_reward: scores / (2 * pairs) }),
    };
  },
});
