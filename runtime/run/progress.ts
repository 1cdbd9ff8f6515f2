/** Progress of a run: counters and the log so far, which checkpoints keep and a resumed run continues. */
import type { TrainingOptions } from "../config/training-options.ts";
import type { Sampler } from "../data/sampler.ts";
import type { TrainingState } from "../folder/parse-state.ts";
import { checkpointPath } from "../folder/folder.ts";
import type { LogEntry, TrainerState } from "../folder/trainer-state.ts";
import { BestModel, type BestModelOptions } from "../training/best-model.ts";
import type { Intervals } from "../training/intervals.ts";

/** What one optimizer step adds. */
export interface StepOutcome {
  /** Mean over the step's samples. */
  readonly loss: number;
  readonly tokens: number;
  /** True where nothing was updated. */
  readonly skipped: boolean;
  /** True where a lower loss scale may mend what was skipped. */
  readonly mendable: boolean;
}

/** What of a training state is the run's, whatever its step. */
export type RunIdentity = Pick<TrainingState, "data" | "seed" | "samplesPerStep" | "optimizer" | "evaluation">;

/** Counts from the run's first step on, however often it was resumed. */
export class RunProgress {
  readonly history: LogEntry[];
  readonly best: BestModel;
  #step: number;
  #stopped = false;
  #updates: number;
  #skipped: number;
  #tokens: number;
  #totalLoss: number;
  #nonFinite: number;
  #unsound = 0;
  #sinceLog: TrainingState["sinceLog"];
  readonly #steps: Pick<Sampler, "stepsPerEpoch" | "totalSteps">;

  /** @param before of the checkpoint that the run goes on from */
  constructor(
    steps: Pick<Sampler, "stepsPerEpoch" | "totalSteps">,
    best: BestModelOptions,
    before: TrainingState | undefined,
  ) {
    this.#steps = steps;
    this.best = new BestModel(best, before?.best);
    this.#step = before?.step ?? 0;
    this.#updates = before?.updates ?? 0;
    this.#skipped = before?.skipped ?? 0;
    this.#tokens = before?.tokens ?? 0;
    this.#totalLoss = before?.totalLoss ?? 0;
    this.#nonFinite = before?.nonFinite ?? 0;
    this.#sinceLog = before?.sinceLog ?? { loss: 0, steps: 0, skipped: 0 };
    this.history = [...(before?.history ?? [])];
  }

  /** Optimizer steps done, skipped ones included. */
  get step(): number {
    return this.#step;
  }

  /** Updates applied. */
  get updates(): number {
    return this.#updates;
  }

  /** Tokens seen. */
  get tokens(): number {
    return this.#tokens;
  }

  /** Epochs done, with the fraction of the current one. */
  get epoch(): number {
    return this.#step / this.#steps.stepsPerEpoch;
  }

  /** True after the last step of an epoch, and of the run. */
  get endsEpoch(): boolean {
    return this.#step % this.#steps.stepsPerEpoch === 0 || this.#step >= this.#steps.totalSteps;
  }

  /** True after the last step, or where evaluations or the run's script stop it before. */
  get done(): boolean {
    return this.#stopped || this.#step >= this.#steps.totalSteps || this.best.stops;
  }

  /** The step done last is the run's last. */
  stop(): void {
    this.#stopped = true;
  }

  /** Mean loss over the steps so far that have a finite one; NaN where none has. */
  get meanLoss(): number {
    return this.#totalLoss / (this.#step - this.#nonFinite);
  }

  /** Steps in a row, up to the last, that have no finite loss, or gradients that no loss scale mends. */
  get unsound(): number {
    return this.#unsound;
  }

  /** Counts a step. */
  add({ loss, tokens, skipped, mendable }: StepOutcome): void {
    this.#step++;
    if (skipped) this.#skipped++;
    else this.#updates++;
    this.#tokens += tokens;
    const finite = Number.isFinite(loss);
    if (finite) this.#totalLoss += loss;
    else this.#nonFinite++;
    this.#unsound = finite && (!skipped || mendable) ? 0 : this.#unsound + 1;
    const since = this.#sinceLog;
    this.#sinceLog = { loss: since.loss + loss, steps: since.steps + 1, skipped: since.skipped + (skipped ? 1 : 0) };
  }

  /** Mean loss and skipped steps since the last call. */
  takeSinceLog(): { readonly loss: number; readonly skipped: number } {
    const { loss, steps, skipped } = this.#sinceLog;
    this.#sinceLog = { loss: 0, steps: 0, skipped: 0 };
    return { loss: loss / steps, skipped };
  }

  /** What a checkpoint keeps. */
  trainingState(identity: RunIdentity, scaler: TrainingState["scaler"]): TrainingState {
    return {
      version: 1,
      step: this.#step,
      updates: this.#updates,
      skipped: this.#skipped,
      tokens: this.#tokens,
      scaler,
      ...identity,
      sinceLog: this.#sinceLog,
      totalLoss: this.#totalLoss,
      nonFinite: this.#nonFinite,
      history: this.history,
      best: this.best.state,
    };
  }

  /** The same as transformers has it. */
  trainerState(training: TrainingOptions, { loggingSteps, evalSteps, saveSteps }: Intervals): TrainerState {
    const { stepsPerEpoch, totalSteps } = this.#steps;
    const best = this.best.state;
    const { earlyStoppingPatience, earlyStoppingThreshold } = training;
    return {
      bestGlobalStep: training.saveStrategy === "no" ? null : best.step,
      bestMetric: best.metric,
      bestModelCheckpoint: best.checkpoint === null ? null : checkpointPath(training.outputDir, best.checkpoint),
      earlyStopping:
        earlyStoppingPatience === undefined
          ? null
          : { patience: earlyStoppingPatience, threshold: earlyStoppingThreshold, counter: best.patience },
      epoch: this.epoch,
      evalSteps: training.evalStrategy === "steps" ? evalSteps : null,
      globalStep: this.#step,
      logHistory: this.history,
      loggingSteps,
      maxSteps: totalSteps,
      numInputTokensSeen: this.#tokens,
      numTrainEpochs: Math.ceil(totalSteps / stepsPerEpoch),
      saveSteps,
      shouldTrainingStop: this.done,
      totalFlos: 0,
      trainBatchSize: training.perDeviceTrainBatchSize,
    };
  }
}
