/**
 * A loss of your own: focal loss (Lin et al. 2017), which looks less at what is already right. The contract kit checks its
 * gradient against finite differences; then it trains.
 *
 *   bun examples/custom-loss.ts
 */
import { defineLoss, train } from "qlora";
import { softmaxRows } from "qlora/core";
import { lossContract } from "qlora/testing";
import { printTable, tinyConfig } from "./tiny.ts";

/** -(1 - p)^gamma log p, p the probability of the label; gamma 0 is cross entropy. */
export const focal = (gamma: number) =>
  defineLoss({
    name: "focal",
    options: { gamma },
    compute({ logits, label }) {
      const probabilities = softmaxRows(logits, logits.length);
      const p = probabilities[label]!;
      const bySelf = (gamma * (1 - p) ** (gamma - 1) * p * Math.log(p) - (1 - p) ** gamma) / p; // d loss / d p
      return {
        loss: -((1 - p) ** gamma) * Math.log(p),
        dLogits: probabilities.map((value, c) => bySelf * p * ((c === label ? 1 : 0) - value)),
      };
    },
  });

if (import.meta.main) {
  for (const { name, run } of lossContract(focal(2))) {
    await run();
    console.log(`kept: ${name}`);
  }
  const rows = [];
  for (const gamma of [0, 2]) {
    const config = await tinyConfig(`custom-loss/gamma-${gamma}`, { loss: focal(gamma) });
    const { history, metrics } = await train(config);
    const losses = history.flatMap(({ loss }) => (typeof loss === "number" ? [loss] : []));
    rows.push({
      gamma,
      "first loss": losses[0]!,
      "last loss": losses.at(-1)!,
      "eval log loss": metrics["eval_log_loss"]!,
    });
  }
  printTable(rows);
}
