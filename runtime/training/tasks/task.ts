/** What a task is to training, evaluation and prediction: one object in one file, listed in index.ts. */
import type { Tape } from "../../../core/compute/tape.ts";
import type { Tensor } from "../../../core/device/tensor.ts";
import type { Task } from "../../../core/plugin/task.ts";
import type { TaskOptions } from "../../config/task-options.ts";
import type { Dataset } from "../../data/dataset.ts";
import type { DataRow } from "../../data/formats/index.ts";
import type { LabelValues } from "../../data/label-values.ts";
import type { Sample } from "../../data/pack.ts";

/** A loss on the GPU: of each sample, or of each pair of rows that follow one another. */
export interface TaskLoss {
  /** Rows of one loss. */
  readonly rows: 1 | 2;
  /** Shape of what `rows` rows of logits are compared with. */
  shape(rows: number, numLabels: number): readonly number[];
  /** Values of that shape for the samples of a micro-batch. */
  values(samples: readonly Sample[]): Float32Array<ArrayBuffer>;
  /** Logits [B,L] and `values` -> the losses [B], or [B/2] of pairs, each with its part of the mean. */
  record(tape: Tape, logits: Tensor, values: Tensor): Tensor;
}

/** Logits of rows as metrics get them, and their mean loss. */
export interface Scored {
  readonly logits: Float32Array;
  /** As `Metric.add` gets them. */
  readonly labels: readonly number[];
  /** Numbers of a row of `logits`. */
  readonly numLabels: number;
  readonly loss: number;
}

/** A task other than the classification that `step-loss.ts` has. */
export interface TaskKind {
  readonly name: Task;
  /** Rows that make one sample. */
  readonly rowsPerSample: 1 | 2;
  /** How labels are read; undefined where they are classes. */
  labels(options: TaskOptions): LabelValues | undefined;
  /** Numbers that the head gives for a row. @throws DataError where datasets differ or cannot be learnt from */
  countOutputs(datasets: readonly Dataset[]): number;
  /** Undefined: cross entropy and its kin, as the training options say. */
  loss?(rows: readonly DataRow[], options: TaskOptions): TaskLoss;
  /** @param logits [rows, numLabels] row-major */
  score(logits: Float32Array, rows: readonly DataRow[], numLabels: number): Scored;
  /** Made-up rows, to try metrics on. */
  sample(numLabels: number): Scored;
  /** What is written of a row's logits: probabilities, or the numbers themselves. */
  predictions(logits: Float32Array, numLabels: number): ArrayLike<number>;
}
