import type { LossInput, LossOutput } from "../config/loss.ts";

/** log(1 + e^x) without overflow. */
const softplus = (x: number): number => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x)));

/**
 * Bradley-Terry over the first two logits, read as scores of A and of B, blended with cross entropy:
 * w (-p log sigmoid(a - b) - (1 - p) log sigmoid(b - a)) + (1 - w) CE. p is 1 where A wins, 0 where B wins, 1/2 for a tie
 * (class 2); of soft labels it is that of A and half the tie's. The first part is the loss of a reward model
 * (Ouyang et al. 2022, eq. 1) and leaves the tie's logit alone; CE is over all classes, with the soft labels where there are any.
 */
export function pairwiseLoss({ logits, label, soft }: LossInput, weight: number): LossOutput {
  const targets = soft ?? Array.from(logits, (_, c) => (c === label ? 1 : 0));
  const p = targets[0]! + (targets[2] ?? 0) / 2;
  const margin = logits[0]! - logits[1]!;
  const slope = 1 / (1 + Math.exp(-margin)) - p;
  const top = Math.max(...logits);
  const logSum = top + Math.log(logits.reduce((sum, value) => sum + Math.exp(value - top), 0));
  const entropy = logits.reduce((sum, value, c) => sum + targets[c]! * (logSum - value), 0);
  return {
    loss: weight * (softplus(margin) - p * margin) + (1 - weight) * entropy,
    dLogits: logits.map(
      (value, c) =>
        weight * (c === 0 ? slope : c === 1 ? -slope : 0) + (1 - weight) * (Math.exp(value - logSum) - targets[c]!),
    ),
  };
}
