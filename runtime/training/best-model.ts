/** Which evaluation of a run is its best, which checkpoint that is, and when there is no use in going on; as transformers tells it. */
import type { BestCriterion } from "../config/interval-options.ts";

/** What a checkpoint keeps of it; plain JSON. */
export interface BestModelState {
  /** The best so far; null before the first evaluation that has a number. */
  readonly metric: number | null;
  /** Optimizer steps done then. */
  readonly step: number | null;
  /** Step of the checkpoint that was the best evaluated when it was saved. */
  readonly checkpoint: number | null;
  /** Evaluations in a row that were no better. */
  readonly patience: number;
}

export const noBestModel: BestModelState = { metric: null, step: null, checkpoint: null, patience: 0 };

/** How the best is told, and when a run stops. */
export interface BestModelOptions {
  readonly criterion: BestCriterion | undefined;
  readonly earlyStoppingPatience?: number | undefined;
  readonly earlyStoppingThreshold: number;
}

/** Follows a run's evaluations and checkpoints. */
export class BestModel {
  readonly #options: BestModelOptions;
  #state: BestModelState;

  /** @param before of the checkpoint that the run goes on from */
  constructor(options: BestModelOptions, before: BestModelState = noBestModel) {
    this.#options = options;
    this.#state = before;
  }

  get state(): BestModelState {
    return this.#state;
  }

  /** True once `earlyStoppingPatience` evaluations in a row were no better. */
  get stops(): boolean {
    const { earlyStoppingPatience = Infinity } = this.#options;
    return this.#state.patience >= earlyStoppingPatience;
  }

  /** Takes an evaluation in. @returns whether it is the best so far */
  evaluated(metrics: Readonly<Record<string, number>>, step: number): boolean {
    const { criterion, earlyStoppingThreshold: threshold } = this.#options;
    if (criterion === undefined) return false;
    const value = metrics[criterion.metric]!;
    const { metric: best, patience } = this.#state;
    const better = best === null || (criterion.greaterIsBetter ? value > best : value < best);
    const improved = better && !Number.isNaN(value);
    const counts = best === null || (improved && Math.abs(value - best) > threshold);
    this.#state = { ...this.#state, patience: counts ? 0 : patience + 1 };
    if (improved) this.#state = { ...this.#state, metric: value, step };
    return improved;
  }

  /** Takes in that a checkpoint was saved. @param kept whether the one of a step is there */
  saved(step: number): void {
    if (this.#state.step === step) this.#state = { ...this.#state, checkpoint: step };
  }

  /** Takes in that its checkpoint is gone. */
  lost(): void {
    this.#state = { ...this.#state, checkpoint: null };
  }
}
