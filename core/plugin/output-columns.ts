/** Outputs and targets of a regression column by column, for metrics that need all rows at once. */
import { eachValueRow } from "./metric-rows.ts";

/**
 * Collects the rows that a metric is given.
 * @example
 * const columns = new OutputColumns(1);
 * columns.add(Float32Array.of(1, 2, 3), [2, 4, 6]);
 * columns.mean(pearsonCorrelation); // 1
 */
export class OutputColumns {
  readonly numLabels: number;
  /** [numLabels][rows] */
  readonly outputs: readonly number[][];
  readonly targets: readonly number[][];

  constructor(numLabels: number) {
    this.numLabels = numLabels;
    this.outputs = Array.from({ length: numLabels }, () => []);
    this.targets = Array.from({ length: numLabels }, () => []);
  }

  /** @param logits [B, numLabels] row-major; @param labels the same; @throws RangeError as `eachValueRow` does */
  add(logits: Float32Array, labels: ArrayLike<number>): void {
    eachValueRow(logits, labels, this.numLabels, (row, values) => {
      for (const [i, value] of values.entries()) {
        this.outputs[i]!.push(row[i]!);
        this.targets[i]!.push(value);
      }
    });
  }

  /** Mean of a figure over the outputs. */
  mean(figure: (outputs: readonly number[], targets: readonly number[]) => number): number {
    return this.outputs.reduce((sum, column, i) => sum + figure(column, this.targets[i]!), 0) / this.numLabels;
  }
}
