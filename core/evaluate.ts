import { lengthSortedBatches, restoreOrder, type PackLimits } from "./data/pack.ts";
import type { TokenisedDataset } from "./data/tokenise.ts";
import type { Engine } from "./engine.ts";
import type { RunListener } from "./events.ts";
import type { EvaluationRecord } from "./report/evaluation-record.ts";
import type { MetricPlugin } from "./plugin.ts";
import type { Session } from "./session.ts";
import { readLogits } from "./step.ts";

/**
 * Logits of every row, in row order.
 * @returns [rows, numLabels] row-major
 */
export async function computeLogits(
  session: Session,
  engine: Engine,
  data: TokenisedDataset,
  limits: PackLimits,
  what: string,
  onEvent?: RunListener,
): Promise<Float32Array<ArrayBuffer>> {
  const { lengths } = await data.done();
  const batches = lengthSortedBatches(lengths, limits);
  const results: Float32Array[][] = [];
  let done = 0;
  for (const members of batches) {
    const ids = await data.ready(members);
    const samples = members.map((index, i) => ({ index, inputIds: ids[i]!, label: undefined }));
    const logits = await readLogits(session, engine, samples);
    results.push(members.map((_, i) => logits.subarray(i * session.numLabels, (i + 1) * session.numLabels)));
    done += members.length;
    onEvent?.({ type: "progress", what, done, total: data.size });
  }
  const ordered = new Float32Array(data.size * session.numLabels);
  restoreOrder(batches, results).forEach((row, i) => ordered.set(row, i * session.numLabels));
  return ordered;
}

/** -log softmax(logits)[label] in f64. */
export function negativeLogLikelihood(logits: ArrayLike<number>, label: number): number {
  let top = -Infinity;
  for (let i = 0; i < logits.length; i++) top = Math.max(top, logits[i]!);
  let sum = 0;
  for (let i = 0; i < logits.length; i++) sum += Math.exp(logits[i]! - top);
  return Math.log(sum) + top - logits[label]!;
}

/** Softmax of each row, in f64. @example softmaxRows([0, Math.log(3)], 2) // 0.25, 0.75 */
export function softmaxRows(logits: ArrayLike<number>, columns: number): Float64Array {
  const out = new Float64Array(logits.length);
  for (let start = 0; start < logits.length; start += columns) {
    let top = -Infinity;
    for (let i = 0; i < columns; i++) top = Math.max(top, logits[start + i]!);
    let sum = 0;
    for (let i = 0; i < columns; i++) sum += out[start + i] = Math.exp(logits[start + i]! - top);
    for (let i = 0; i < columns; i++) out[start + i]! /= sum;
  }
  return out;
}

/** Logs of rows of probabilities, end to end: what stands in the place of logits, since their softmax is the probabilities. */
export function logarithms(rows: readonly (readonly number[])[]): Float32Array<ArrayBuffer> {
  return Float32Array.from(rows.flatMap((row) => row.map((value) => Math.log(Math.max(value, Number.MIN_VALUE)))));
}

/** `eval_loss` (mean cross entropy) and what each metric names, prefixed with `eval_`. */
export function scoreLogits(
  logits: Float32Array,
  labels: readonly number[],
  numLabels: number,
  metrics: readonly MetricPlugin[],
): Record<string, number> {
  let total = 0;
  labels.forEach((label, i) => {
    total += negativeLogLikelihood(logits.subarray(i * numLabels, (i + 1) * numLabels), label);
  });
  const result: Record<string, number> = { eval_loss: total / labels.length };
  for (const plugin of metrics) {
    const metric = plugin.create({ numLabels });
    metric.add(logits, labels);
    for (const [name, value] of Object.entries(metric.result())) result[`eval_${name}`] = value;
  }
  return result;
}

/** Classes of an arena comparison, for people. */
const ARENA_LABEL_NAMES = ["A wins", "B wins", "tie"];

/** What the report shows of an evaluation, row by row. */
export async function evaluationRecord(
  data: TokenisedDataset,
  logits: Float32Array,
  { step, numLabels, maxLength }: { readonly step: number; readonly numLabels: number; readonly maxLength: number },
): Promise<EvaluationRecord> {
  const probabilities = softmaxRows(logits, numLabels);
  const { lengths, fullLengths } = await data.done();
  const { rows } = data.dataset;
  return {
    step,
    numLabels,
    ...(rows.some((row) => row.kind === "arena") ? { labelNames: ARENA_LABEL_NAMES } : {}),
    labels: rows.map((row) => row.label!),
    probabilities: rows.map((_, i) => [...probabilities.subarray(i * numLabels, (i + 1) * numLabels)]),
    lengths: [...lengths],
    fullLengths: [...fullLengths],
    maxLength,
  };
}
