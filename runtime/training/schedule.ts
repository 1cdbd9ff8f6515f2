/**
 * Learning rates by update, equal to transformers' schedulers (optimization.py): base rate times a factor of the number
 * of updates done before, in f64. The first update of a run with warmup therefore has rate 0.
 */

export type LrSchedulerType = "linear" | "cosine" | "constant" | "constant_with_warmup";

/** What a schedule depends on; a part of the training options. */
export interface ScheduleOptions {
  readonly learningRate: number;
  readonly lrSchedulerType: LrSchedulerType;
  /** Updates of linear warmup; where it is 0, `warmupRatio` decides. */
  readonly warmupSteps: number;
  /** Warmup as a share of all updates, rounded up. */
  readonly warmupRatio: number;
}

/** Updates of warmup in a run of `totalSteps`; `constant` has none. */
export function warmupStepsOf(
  { lrSchedulerType, warmupSteps, warmupRatio }: ScheduleOptions,
  totalSteps: number,
): number {
  if (lrSchedulerType === "constant") return 0;
  return warmupSteps > 0 ? warmupSteps : Math.ceil(totalSteps * warmupRatio);
}

/**
 * The learning rate of an update.
 * @param update updates done before: 0 for the first
 * @param totalSteps updates of the whole run
 */
export function learningRateAt(options: ScheduleOptions, totalSteps: number, update: number): number {
  const warmup = warmupStepsOf(options, totalSteps);
  if (update < warmup) return options.learningRate * (update / warmup);
  return options.learningRate * factorAfterWarmup(options.lrSchedulerType, update, warmup, totalSteps);
}

function factorAfterWarmup(type: LrSchedulerType, update: number, warmup: number, totalSteps: number): number {
  const length = Math.max(1, totalSteps - warmup);
  switch (type) {
    case "linear":
      return Math.max(0, (totalSteps - update) / length);
    case "cosine":
      return Math.max(0, 0.5 * (1 + Math.cos(Math.PI * ((update - warmup) / length))));
    case "constant":
    case "constant_with_warmup":
      return 1;
  }
}

/** Whether a strategy wants its work done after this step. */
export function isDue(
  strategy: "no" | "epoch" | "steps",
  every: number,
  { step, endsEpoch }: { readonly step: number; readonly endsEpoch: boolean },
): boolean {
  return strategy === "steps" ? step % every === 0 : strategy === "epoch" && endsEpoch;
}
