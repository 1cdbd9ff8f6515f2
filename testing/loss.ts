import { defineRequest } from "../core/options/request.ts";
import { normalValues, uniformValues } from "../core/util/random.ts";
import { computeLoss, type Loss } from "../runtime/config/loss.ts";
import { type Check, expectNear, expectSameBits, expectThat } from "./contract.ts";
import { differences } from "./finite-differences.ts";

/** What the loss contract is held with. */
export interface LossContractOptions {
  /** Classes. Default 3. */
  readonly numLabels?: number;
  /** Random rows to try, every second of them with soft labels. Default 12. */
  readonly rows?: number;
  /** Largest relative L2 error of the gradient against central differences of the fourth order. Default 1e-6. */
  readonly tolerance?: number;
  readonly seed?: number;
}

const checkOptions = defineRequest<LossContractOptions>("lossContract", {
  numLabels: "number.integer >= 2?",
  rows: "number.integer >= 1?",
  tolerance: "number >= 0?",
  seed: "number?",
});

/**
 * What every loss keeps: `dLogits` is the gradient of `loss`; the same row gives the same numbers, whatever came before;
 * logits are left as they were.
 * @example
 * const square = defineLoss({ name: "square", compute: ({ logits }) => ({ loss: logits[0]! ** 2, dLogits: logits.map((z, c) => (c === 0 ? 2 * z : 0)) }) });
 * for (const { name, run } of lossContract(square)) test(name, run);
 */
export function lossContract(loss: Loss, options: LossContractOptions = {}): Check[] {
  const { numLabels = 3, rows: count = 12, tolerance = 1e-6, seed = 1 } = checkOptions(options);
  const rows = Array.from({ length: count }, (_, i) => randomInput(i, numLabels, seed));
  return [
    {
      name: "dLogits is the gradient of the loss",
      async run() {
        rows.forEach((row, i) => {
          const at = (logits: Float64Array): number => computeLoss(loss, { ...row, logits }).loss;
          const { dLogits } = computeLoss(loss, row);
          expectNear(dLogits, differences(at, row.logits, 1e-3), tolerance, `${loss.name}: row ${i}: dLogits`);
        });
      },
    },
    {
      name: "a row gives the same numbers in any order, and its logits stay",
      async run() {
        const all = rows.map((row) => computeLoss(loss, { ...row, logits: row.logits.slice() }));
        for (const [i, row] of [...rows.entries()].toReversed()) {
          const logits = row.logits.slice();
          const again = computeLoss(loss, { ...row, logits });
          expectThat(
            Object.is(again.loss, all[i]!.loss),
            `${loss.name}: row ${i}: ${again.loss}, then ${all[i]!.loss}`,
          );
          expectSameBits(again.dLogits, all[i]!.dLogits, `${loss.name}: row ${i}: dLogits`);
          expectSameBits(logits, row.logits, `${loss.name}: row ${i}: logits after compute`);
        }
      },
    },
  ];
}

function randomInput(index: number, numLabels: number, seed: number) {
  const logits = Float64Array.from(normalValues(numLabels, 2, seed, `logits ${index}`));
  const weights = Array.from(uniformValues(numLabels, 0.5, seed, `soft ${index}`), (value) => value + 0.5);
  const sum = weights.reduce((total, value) => total + value, 0);
  const label = index % numLabels;
  const soft = index % 2 === 0 ? undefined : weights.map((value) => value / sum);
  const row = {
    kind: "text",
    text: `row ${index}`,
    id: String(index),
    file: "contract",
    line: index + 1,
    label,
    soft,
  } as const;
  return { logits, label, soft, row };
}
