import { PluginError, QloraError } from "../../core/errors.ts";
import { formatValue } from "../../core/options/describe.ts";
import type { BaseRow } from "../../core/plugin/data-format.ts";
import type { MetricPlugin } from "../../core/plugin/metric.ts";
import type { Task } from "../../core/plugin/task.ts";
import type { TokenizedDataset } from "../data/dataset-tokenizer.ts";
import { lengthSortedBatches, restoreOrder, type PackLimits } from "../data/pack.ts";
import { computeDealt } from "../distributed/dealt-rows.ts";
import { alone, type World } from "../distributed/world.ts";
import type { RunListener } from "../events.ts";
import type { Session } from "../session/session.ts";
import { readLogits } from "./forward.ts";
import type { Scored, TaskKind } from "./tasks/task.ts";

/** Rows of a dataset that are done already, and those that come. */
export interface KeptRows {
  get(row: number): Float32Array | undefined;
  /** @param logits [rows, numLabels] */
  add(rows: readonly number[], logits: Float32Array<ArrayBuffer>): Promise<void>;
}

/** What of the work is kept, and what ends it. */
export interface ComputeOptions {
  readonly kept?: KeptRows | undefined;
  /** Aborting ends it before the next batch, with the error INTERRUPTED. */
  readonly signal?: AbortSignal | undefined;
  /** Ranks that the batches are dealt to; every one of them gets all logits. */
  readonly world?: World | undefined;
}

/**
 * Logits of every row, in row order.
 * @returns [rows, numLabels] row-major
 */
export async function computeLogits(
  session: Session,
  data: TokenizedDataset,
  limits: PackLimits,
  what: string,
  onEvent?: RunListener,
  { kept, signal, world = alone }: ComputeOptions = {},
): Promise<Float32Array<ArrayBuffer>> {
  const { lengths } = await data.done();
  const batches = lengthSortedBatches(lengths, limits);
  const { numLabels } = session;
  const tell = (done: number): void => onEvent?.({ type: "progress", what, done, total: data.size });
  const compute = async (members: readonly number[]): Promise<Float32Array<ArrayBuffer>> => {
    const ids = await data.ready(members);
    return readLogits(
      session,
      members.map((index, i) => ({ index, inputIds: ids[i]!, label: undefined })),
    );
  };
  if (world.size > 1) {
    const work = { batches, lengths, width: numLabels, compute };
    return computeDealt(world, work, { kept, signal, onDone: tell });
  }
  const results: Float32Array[][] = [];
  let done = 0;
  for (const members of batches) {
    const known = members.flatMap((row) => kept?.get(row) ?? []);
    if (known.length === members.length) {
      // Whole batches alone are kept: a row's last bits may depend on those beside it.
      results.push(known);
      done += members.length;
      continue;
    }
    if (signal?.aborted === true) throw new QloraError("INTERRUPTED", `interrupted after ${done} of ${data.size} rows`);
    const logits = await compute(members);
    results.push(members.map((_, i) => logits.subarray(i * numLabels, (i + 1) * numLabels)));
    await kept?.add(members, logits);
    done += members.length;
    tell(done);
  }
  const ordered = new Float32Array(data.size * numLabels);
  restoreOrder(batches, results).forEach((row, i) => ordered.set(row, i * numLabels));
  return ordered;
}

/** Logs of rows of probabilities, end to end: what stands in the place of logits, since their softmax is the probabilities. */
export function logProbabilities(rows: readonly (readonly number[])[]): Float32Array<ArrayBuffer> {
  return Float32Array.from(rows.flatMap((row) => row.map((value) => Math.log(Math.max(value, Number.MIN_VALUE)))));
}

/** Numbers whose predictions are these, row by row: of probabilities of classes their logs, of labels their logits. */
export function logitsOfPredictions(task: Task, rows: readonly (readonly number[])[]): Float32Array<ArrayBuffer> {
  if (task === "classification") return logProbabilities(rows);
  const logit = (p: number): number => Math.log(Math.max(p, Number.MIN_VALUE)) - Math.log(Math.max(1 - p, 2 ** -53));
  return Float32Array.from(rows.flatMap((row) => (task === "multi-label" ? row.map(logit) : row)));
}

/** `eval_loss` and what each metric names, prefixed with `eval_`. @throws PluginError */
export function scoreLogits(
  { logits, labels, numLabels, loss }: Scored,
  metrics: readonly MetricPlugin[],
  { name: task }: Pick<TaskKind, "name">,
  rows: readonly BaseRow[],
): Record<string, number> {
  const result: Record<string, number> = { eval_loss: loss };
  for (const plugin of metrics) {
    const metric = plugin.create({ numLabels, task });
    metric.add(logits, labels, rows);
    addResult(result, plugin.name, metric.result());
  }
  return result;
}

/** A metric that cannot work is refused before training: later, the log would be unreadable or wrong. */
function addResult(into: Record<string, number>, metric: string, values: unknown): void {
  const wrong = (got: string, expected: string): PluginError =>
    new PluginError("METRIC_RESULT", `metric ${metric}: result() gives ${got}, expected ${expected}`);
  if (typeof values !== "object" || values === null || values instanceof Promise)
    throw wrong(values instanceof Promise ? "a promise" : formatValue(values), "an object of numbers");
  for (const [name, value] of Object.entries(values)) {
    if (typeof value !== "number") throw wrong(`${name}: ${formatValue(value)}`, "an object of numbers");
    if (`eval_${name}` in into) throw wrong(name, "a name that no other metric gives");
    into[`eval_${name}`] = value;
  }
}

/**
 * Scores made-up rows: a metric that cannot work is to be known before hours of training.
 * @returns the names of the numbers; undefined where too many classes keep it from trying
 * @throws PluginError
 */
export function validateMetrics(
  metrics: readonly MetricPlugin[],
  task: TaskKind,
  numLabels: number,
): readonly string[] | undefined {
  const sample = task.sample(numLabels);
  const rows = Array.from({ length: sample.logits.length / numLabels }, (_, i) => ({
    kind: "made-up",
    id: String(i),
    file: "rows made up to try the metrics",
    line: i + 1,
    label: sample.labels[i],
  }));
  return sample.labels.length === 0 ? undefined : Object.keys(scoreLogits(sample, metrics, task, rows));
}
