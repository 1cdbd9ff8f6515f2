/** When a run logs, evaluates and saves. */
import type { TrainingOptions } from "../config/training-options.ts";

/** Steps between two of each; shares of a run are counted out. */
export interface Intervals {
  readonly loggingSteps: number;
  readonly evalSteps: number;
  readonly saveSteps: number;
}

/** Intervals of a run: what is below 1 is a share of `totalSteps`, rounded up as transformers does. */
export function intervalsOf(
  { loggingSteps, evalSteps, saveSteps }: Pick<TrainingOptions, keyof Intervals>,
  totalSteps: number,
): Intervals {
  const counted = (steps: number): number => (steps < 1 ? Math.ceil(totalSteps * steps) : steps);
  return {
    loggingSteps: counted(loggingSteps),
    evalSteps: counted(evalSteps),
    saveSteps: counted(saveSteps),
  };
}

/** Where a run stands after a step. */
export interface StepPlace {
  readonly step: number;
  readonly totalSteps: number;
  readonly endsEpoch: boolean;
}

/** Whether a strategy wants its work done after this step. */
export function isDue(
  strategy: TrainingOptions["saveStrategy"],
  every: number,
  { step, endsEpoch }: Omit<StepPlace, "totalSteps">,
): boolean {
  return strategy === "steps" ? step % every === 0 : strategy === "epoch" && endsEpoch;
}

/** Whether to evaluate after this step: the last one of a run is, whatever its number. */
export const evaluationIsDue = (strategy: TrainingOptions["evalStrategy"], every: number, place: StepPlace): boolean =>
  isDue(strategy, every, place) || (strategy === "steps" && place.step === place.totalSteps);
