/** What a training run takes and gives. */
import { defineRequest } from "../../core/options/request.ts";
import type { RunListener } from "../events.ts";
import type { LogEntry } from "../folder/trainer-state.ts";
import type { Session } from "../session/session.ts";
import type { ComputeGradients } from "../training/gradients.ts";

/** How work is watched. */
export interface EventOptions {
  readonly onEvent?: RunListener | undefined;
}

/** How a run is watched, stopped and changed. */
export interface TrainOptions extends EventOptions {
  /** Aborting finishes the step under way, saves a checkpoint and returns. */
  readonly signal?: AbortSignal | undefined;
  /** Gradients of a step computed in your own way, between its samples and clipping. */
  readonly computeGradients?: ComputeGradients | undefined;
}

/** @throws ConfigError */
export const checkTrainOptions = defineRequest<TrainOptions>("options", {
  onEvent: "Function?",
  signal: "object?",
  computeGradients: "Function?",
});

/** @throws ConfigError */
export const checkEventOptions = defineRequest<EventOptions>("options", { onEvent: "Function?" });

/** One optimizer step, as the loop yields it. */
export interface TrainStep {
  /** Optimizer steps done. */
  readonly step: number;
  readonly totalSteps: number;
  readonly epoch: number;
  /** Mean loss over the step's samples. */
  readonly loss: number;
  /** L2 norm over all gradients, before clipping. */
  readonly gradNorm: number;
  readonly learningRate: number;
  /** True where a gradient was not finite, so that nothing was updated. */
  readonly skipped: boolean;
  readonly lossScale: number;
  readonly samples: number;
  readonly tokens: number;
  readonly session: Session;
  /**
   * Makes this step the last: the run ends as a finished one, its adapter and report written. (`break` leaves it as an
   * interrupted one, with a checkpoint to go on from.)
   */
  readonly stop: () => void;
}

/** What a finished (or interrupted) run gives back. */
export interface TrainResult {
  readonly outputDir: string;
  readonly steps: number;
  readonly totalSteps: number;
  /** Mean loss over all steps. */
  readonly trainLoss: number;
  /** The last evaluation's metrics, `eval_…`, or the best checkpoint's where the run ends with that; empty where none was made. */
  readonly metrics: Readonly<Record<string, number>>;
  /** Path of report.html. */
  readonly report: string;
  readonly history: readonly LogEntry[];
  readonly interrupted: boolean;
}
