/** What a run tells while it goes on; the trainer emits these, the command line and scripts read them. */

/** After each optimizer step. */
export interface StepEvent {
  readonly type: "step";
  /** Optimizer steps done. */
  readonly step: number;
  readonly totalSteps: number;
  /** Epochs done, with the fraction of the current one. */
  readonly epoch: number;
  /** Mean loss of the step's samples; undefined where it was not read back. */
  readonly loss: number | undefined;
  readonly learningRate: number;
  /** Since the last log, without evaluation and saving. */
  readonly samplesPerSecond: number;
  /** The same of real tokens; there is no padding. */
  readonly tokensPerSecond: number;
  /** Bytes of GPU memory held now, those that wait for reuse included. */
  readonly memoryBytes: number;
}

/** Every `loggingSteps` steps: one entry of trainer_state.json's log history, in its own spelling. */
export interface LogEvent {
  readonly type: "log";
  readonly step: number;
  readonly totalSteps: number;
  readonly epoch: number;
  /** Mean loss since the last log. */
  readonly loss: number;
  /** L2 norm over all gradients, before clipping. */
  readonly gradNorm: number;
  readonly learningRate: number;
  /** Steps skipped since the last log because a gradient was not finite. */
  readonly skippedSteps: number;
  readonly samplesPerSecond: number;
  readonly tokensPerSecond: number;
  readonly memoryBytes: number;
}

/** Something long under way: a download, loading, evaluation, prediction. */
export interface ProgressEvent {
  readonly type: "progress";
  readonly what: string;
  readonly done: number;
  readonly total: number;
  /** What is counted, where it is bytes. */
  readonly unit?: "bytes";
}

export interface EvalEvent {
  readonly type: "eval";
  readonly step: number;
  readonly epoch: number;
  /** `eval_loss`, `eval_log_loss`, `eval_accuracy`, ... */
  readonly metrics: Readonly<Record<string, number>>;
  readonly seconds: number;
}

export interface SaveEvent {
  readonly type: "save";
  readonly step: number;
  readonly path: string;
}

/** A sentence for the reader. */
export interface InfoEvent {
  readonly type: "info" | "warning";
  readonly message: string;
}

/** Anything that a run tells. */
export type RunEvent = StepEvent | LogEvent | ProgressEvent | EvalEvent | SaveEvent | InfoEvent;

/** Takes events as they come; must not throw. */
export type RunListener = (event: RunEvent) => void;
