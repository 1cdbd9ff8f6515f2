/** The log of a run taken apart: training entries, evaluations, the summary at the end, and series of points. */
import type { LogEntry } from "../folder/trainer-state.ts";

/** One value of the log. */
export interface Point {
  readonly step: number;
  readonly epoch: number;
  /** NaN where the log holds no finite number. */
  readonly value: number;
}

/** A log by kind of entry, each in the order of the log. */
export interface History {
  /** `{ loss, grad_norm, learning_rate, ... }` */
  readonly training: readonly LogEntry[];
  /** `{ eval_loss, ... }` */
  readonly evaluations: readonly LogEntry[];
  /** `{ train_loss, train_runtime, ... }`, the last entry of a finished run; one that went on afterwards has none. */
  readonly summary: LogEntry | undefined;
  /** The last step that the log names; 0 in an empty log. */
  readonly lastStep: number;
  readonly lastEpoch: number;
}

/** Names of an evaluation's entry that are about its speed, not its result. */
const SPEED = /_(runtime|samples_per_second|steps_per_second)$/;
const LOWER_IS_BETTER = /(loss|error|perplexity|brier|ece|mse|rmse|mae)$/;
const HIGHER_IS_BETTER =
  /(accuracy|acc|f1|auc|precision|recall|kappa|mcc|score|f1_micro|f1_macro|exact_match|pearson|spearman|margin)$/;

/** The last entry of a finished run; undefined for one that goes on. */
export function summaryOf(entries: readonly LogEntry[]): LogEntry | undefined {
  const last = entries.at(-1);
  return last !== undefined && ("train_loss" in last || "train_runtime" in last) ? last : undefined;
}

/** Takes a log apart. */
export function splitHistory(entries: readonly LogEntry[]): History {
  const isEvaluation = (entry: LogEntry): boolean => Object.keys(entry).some((key) => key.startsWith("eval_"));
  const last = entries.at(-1);
  return {
    training: entries.filter((entry) => "loss" in entry),
    evaluations: entries.filter(isEvaluation),
    summary: summaryOf(entries),
    lastStep: last?.step ?? 0,
    lastEpoch: last?.epoch ?? 0,
  };
}

/** The values of one key, of the entries that have it. */
export function pointsOf(entries: readonly LogEntry[], key: string): Point[] {
  return entries.flatMap((entry) => {
    const value = entry[key];
    return value === undefined ? [] : [{ step: entry.step, epoch: entry.epoch, value }];
  });
}

/** Names of the metrics of all evaluations, `eval_loss` first, then as the log has them. */
export function metricKeys(evaluations: readonly LogEntry[]): string[] {
  const keys = new Set(evaluations.flatMap((entry) => Object.keys(entry)));
  const metrics = [...keys].filter((key) => key.startsWith("eval_") && !SPEED.test(key) && key !== "eval_loss");
  return keys.has("eval_loss") ? ["eval_loss", ...metrics] : metrics;
}

/** The best point by the metric's name (a loss is better low, an accuracy high); undefined where the name says neither. */
export function bestPoint(points: readonly Point[], key: string): Point | undefined {
  const sign = betterSign(key);
  if (sign === 0) return undefined;
  return points
    .filter((point) => Number.isFinite(point.value))
    .reduce<Point | undefined>(
      (best, point) => (best === undefined || sign * point.value < sign * best.value ? point : best),
      undefined,
    );
}

/** 1 where a metric of that name is better low, -1 where it is better high, 0 where the name says neither. */
export function betterSign(key: string): -1 | 0 | 1 {
  return LOWER_IS_BETTER.test(key) ? 1 : HIGHER_IS_BETTER.test(key) ? -1 : 0;
}

/** The lower median of the finite values; undefined without any. */
export function medianOf(points: readonly Point[]): number | undefined {
  const values = points
    .map(({ value }) => value)
    .filter(Number.isFinite)
    .sort((a, b) => a - b);
  return values[Math.floor((values.length - 1) / 2)];
}

/** Exponential moving average with the start's bias taken out, as TensorBoard smooths; NaN is passed over. */
export function smooth(points: readonly Point[], weight: number): Point[] {
  let [sum, norm] = [0, 0];
  return points.map((point) => {
    if (!Number.isFinite(point.value)) return point;
    sum = sum * weight + (1 - weight) * point.value;
    norm = norm * weight + (1 - weight);
    return { ...point, value: sum / norm };
  });
}

/**
 * At most about `most` of the points: of each stretch its lowest and its highest, so that no spike is lost, and every
 * point that is not finite.
 */
export function thin(points: readonly Point[], most: number): readonly Point[] {
  if (points.length <= most) return points;
  const stretch = Math.ceil(points.length / (most / 2));
  const kept: Point[] = [];
  for (let start = 0; start < points.length; start += stretch) {
    const part = points.slice(start, start + stretch);
    const finite = part.filter((point) => Number.isFinite(point.value));
    const low = finite.reduce<Point | undefined>((a, b) => (a === undefined || b.value < a.value ? b : a), undefined);
    const high = finite.reduce<Point | undefined>((a, b) => (a === undefined || b.value > a.value ? b : a), undefined);
    kept.push(...part.filter((point) => point === low || point === high || !Number.isFinite(point.value)));
  }
  const last = points.at(-1)!;
  return kept.at(-1) === last ? kept : [...kept, last];
}
