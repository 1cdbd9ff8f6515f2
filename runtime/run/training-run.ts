/** What the parts of a training run share. */
import type { Checkpointing } from "../../core/compute/blocks.ts";
import type { ReporterStatus } from "../../core/plugin/reporter.ts";
import type { Config } from "../config/config.ts";
import type { TokenizedDataset } from "../data/dataset-tokenizer.ts";
import type { PackLimits } from "../data/pack.ts";
import type { World } from "../distributed/world.ts";
import type { RunListener } from "../events.ts";
import type { AdapterNotes } from "../folder/adapter-notes.ts";
import type { Lineage } from "../folder/lineage.ts";
import type { LogEntry } from "../folder/trainer-state.ts";
import type { Session } from "../session/session.ts";
import type { GradScaler } from "../training/grad-scaler.ts";
import type { OptimizerStep } from "../training/optimizer-step.ts";
import type { GradientReducer } from "../training/reduce.ts";
import { type RunProgress, type RunIdentity } from "./progress.ts";
import type { TrainingTask } from "./task.ts";

/** A run that may take its first step; hold it with `await using`. */
export interface TrainingRun extends AsyncDisposable {
  readonly config: Config;
  /** Rank 0 alone writes the run's folder. */
  readonly world: World;
  /** Between backward and clip. */
  readonly reducer: GradientReducer;
  readonly onEvent: RunListener | undefined;
  readonly work: TrainingTask;
  readonly trainData: TokenizedDataset;
  readonly evalData: TokenizedDataset | undefined;
  readonly identity: RunIdentity;
  /** What is written beside the adapter. */
  readonly notes: AdapterNotes;
  readonly session: Session;
  readonly optimizerStep: OptimizerStep;
  /** Undefined in tier f32, which needs no loss scale. */
  readonly scaler: GradScaler | undefined;
  readonly checkpointing: Checkpointing;
  /** Of a micro-batch, and of a batch in evaluation. */
  readonly limits: PackLimits;
  readonly evalLimits: PackLimits;
  readonly progress: RunProgress;
  /** Adds to the history and to the log's files. */
  readonly log: (entry: LogEntry) => Promise<void>;
  /** Makes metrics.jsonl outlast a loss of power. */
  readonly syncLog: () => Promise<void>;
  /** Tells the reporters how the run ended. */
  readonly conclude: (status: ReporterStatus) => Promise<void>;
  /** What they are told of a run that is left before it concludes. */
  readonly leaving: { status: ReporterStatus };
  /** The starts that led here, this one the last. */
  readonly lineage: Lineage;
  /** Resolves when run.json also tells what truncation took. */
  readonly cuts: Promise<void>;
}
