/** What an update weighs in the average depends on all updates before it, in f64 on the host. */

/** Sums over the updates so far. */
interface Sums {
  /** Number of the last update; 0 for none. */
  readonly update: number;
  readonly weightSum: number;
  /** Highest learning rate. */
  readonly highest: number;
}

/** Weights of updates, of which any may turn out to be skipped: it comes again then, under the same number. */
export class Averaging {
  readonly #r: number;
  readonly #power: number;
  #before: Sums = { update: 0, weightSum: 0, highest: 0 };
  #now: Sums = this.#before;

  constructor({ r, weightLrPower }: { readonly r: number; readonly weightLrPower: number }) {
    this.#r = r;
    this.#power = weightLrPower;
  }

  /** Share of the new iterate in the average: ckp1 of the paper's code. */
  step(update: number, learningRate: number): number {
    if (update !== this.#now.update) this.#before = this.#now;
    const highest = Math.max(learningRate, this.#before.highest);
    const weight = update ** this.#r * highest ** this.#power;
    const weightSum = this.#before.weightSum + weight;
    this.#now = { update, weightSum, highest };
    return weightSum === 0 ? 0 : weight / weightSum;
  }

  /** The sums after the last update that the GPU applied. */
  after(update: number): Sums {
    return update === this.#now.update ? this.#now : this.#before;
  }

  restore(sums: Sums): void {
    this.#before = this.#now = sums;
  }
}
