/** What a memory plan is made for and what it settles. */
import type { Checkpointing } from "../../core/compute/blocks.ts";
import type { MemoryReport } from "../../core/device/memory.ts";
import type { AdapterPlugin } from "../../core/plugin/adapter.ts";
import type { ModelPlacement, ModelLoader, UserPlacement } from "../../core/plugin/model.ts";
import type { Optimizer } from "../../core/plugin/optimizer.ts";
import type { MemoryBudget } from "../device/budget.ts";
import type { Session } from "../session/session.ts";

/** What runs: training, evaluation or both. */
export interface Workload {
  readonly source: ModelLoader;
  readonly adapter: AdapterPlugin;
  readonly numLabels: number;
  readonly training?: TrainingLoad | undefined;
  readonly evaluation?: EvaluationLoad | undefined;
}

/** What is trained, and on how long samples. */
export interface TrainingLoad {
  readonly optimizer: (session: Session) => Optimizer;
  /** Optimizer steps to take, each as the token counts of its samples; the longest that may come. */
  readonly steps: readonly (readonly number[])[];
  /** Most samples of a micro-batch; undefined: all that the token budget has room for. */
  readonly maxSamples: number | undefined;
}

/** Batches of forward passes alone. */
export interface EvaluationLoad {
  /** Most samples of a batch. */
  readonly maxSamples: number;
  /** Tokens of the longest sample that may come. */
  readonly longest: number;
}

/** What a plan settles. */
export interface MemorySettings extends ModelPlacement {
  readonly checkpointing: Checkpointing;
  /** Most tokens of a micro-batch; undefined: as many as its samples have. */
  readonly tokenBudget: number | undefined;
}

/** Bytes of GPU memory. */
export interface MemoryFigures {
  /** Held between steps: weights, adapter, gradients, optimizer. */
  readonly atRest: MemoryReport["byPurpose"];
  /** In use at the highest point. */
  readonly atPeak: MemoryReport["byPurpose"];
  /** Buffers in use and kept for reuse together, at the highest point. */
  readonly peak: number;
}

/** Figures, or why there are none: one buffer would be larger than the adapter allows. */
export type Measured = MemoryFigures | { readonly tooLarge: string };

/**
 * How memory is traded for speed: `lean` recomputes every block and keeps the token table on the host (micro-batches are
 * cut only where whole ones do not fit), `fast` recomputes nothing, `auto` is the fastest that fits.
 */
export type MemoryMode = "lean" | "auto" | "fast";

/** What the user settled; the plan chooses the rest. */
export interface UserSettings {
  readonly checkpointing?: Checkpointing | undefined;
  readonly tokenBudget?: number | undefined;
  /** Undefined for a model that has no such choice. */
  readonly placement?: UserPlacement | undefined;
  /** A run goes on with its own settings: micro-batches that were not cut stay so, since a cut changes the last bits. */
  readonly resumed?: boolean | undefined;
}

/** Settings that need not be searched for where they fit, and where they come from; a part of a sentence. */
export interface FavoredSettings {
  readonly settings: MemorySettings;
  readonly reason: string;
}

/** A choice and what it costs. */
export interface MemoryPlan {
  readonly mode: MemoryMode;
  readonly settings: MemorySettings;
  readonly figures: MemoryFigures;
  readonly budget: MemoryBudget;
  /** Blocks of the model. */
  readonly blocks: number;
  /** Tokens of the largest micro-batch. */
  readonly batchTokens: number;
  /** Why these settings, as one sentence. */
  readonly reason: string;
}

/** What run.json keeps of a plan, for the run that goes on. */
export interface RecordedMemory {
  readonly mode: MemoryMode;
  readonly settings: MemorySettings;
}
