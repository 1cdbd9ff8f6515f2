/** The runs below a folder, each in one line's worth of facts. */
import { existsSync } from "node:fs";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { QloraError } from "../core/errors.ts";
import { RUN_FILES } from "../runtime/folder/folder.ts";
import { bestPoint, medianOf, metricKeys, pointsOf, splitHistory, type Point } from "../runtime/report/history.ts";
import { runState, type RunState } from "../runtime/report/run-state.ts";
import { checkpointName, numberAt, readReportRun, textAt, type ReportRun } from "../runtime/report/run.ts";

/** What a run's folder says, in short. */
export interface RunSummary {
  readonly path: string;
  /** `running` is a guess: it has not stopped by itself, and wrote something not long ago. */
  readonly state: RunState;
  /** Last part of the checkpoint's name. */
  readonly model: string | undefined;
  readonly adapter: { readonly name: string; readonly rank?: number; readonly alpha?: number } | undefined;
  readonly optimizer: string | undefined;
  /** Optimizer steps logged. */
  readonly step: number;
  readonly totalSteps: number | undefined;
  /** Of the last log entry. */
  readonly trainLoss: number | undefined;
  /** Of the last evaluation: `eval_loss`, `eval_log_loss`, ...; empty where there was none. */
  readonly metrics: Readonly<Record<string, number>>;
  /** Of all its evaluations, for metrics whose name tells which way is better. */
  readonly best: Readonly<Record<string, Pick<Point, "step" | "value">>>;
  readonly samplesPerSecond: number | undefined;
  /** ISO 8601. */
  readonly startedAt: string | undefined;
}

/** A folder that holds a run which cannot be read, or that cannot be looked into. */
export interface UnreadableRun {
  readonly path: string;
  readonly state: "unreadable";
  readonly problem: string;
}

/** Folders in which no run lies. */
const PASSED_OVER = /^(checkpoint-\d+|node_modules|\..*)$/;

/**
 * Every run in and below the folders, in the order of their paths; links are not followed.
 * @throws QloraError RUNS_NOT_FOUND where a folder does not exist
 * @example for (const { path, state } of await listRuns([run])) console.log(path, state);
 */
export async function listRuns(folders: readonly string[]): Promise<(RunSummary | UnreadableRun)[]> {
  const missing = folders.filter((folder) => !existsSync(folder));
  if (missing.length > 0) {
    throw new QloraError("RUNS_NOT_FOUND", `${missing.join(", ")}: no such folder`, {
      hint: "Name the folders that training.outputDir named, or one above them.",
    });
  }
  const found = await Promise.all(folders.map((folder) => runsBelow(folder)));
  return [...new Map(found.flat().map((run) => [run.path, run])).values()];
}

async function runsBelow(folder: string): Promise<(RunSummary | UnreadableRun)[]> {
  let entries;
  try {
    entries = await readdir(folder, { withFileTypes: true });
  } catch (error) {
    return [unreadable(folder, error)];
  }
  const names = new Set(entries.map((entry) => entry.name));
  const isRun = names.has(RUN_FILES.record) || names.has(RUN_FILES.metrics);
  const own = isRun ? [await summarizeRun(folder).catch((error: unknown) => unreadable(folder, error))] : [];
  const inner = entries.filter((entry) => entry.isDirectory() && !PASSED_OVER.test(entry.name));
  const below = await Promise.all(
    inner
      .map(({ name }) => join(folder, name))
      .sort(inNaturalOrder)
      .map((path) => runsBelow(path)),
  );
  return [...own, ...below.flat()];
}

function unreadable(path: string, error: unknown): UnreadableRun {
  return { path, state: "unreadable", problem: error instanceof Error ? error.message : String(error) };
}

/** `fold-2` before `fold-10`. */
const inNaturalOrder = new Intl.Collator("en", { numeric: true }).compare;

/** One run in short. @throws QloraError where its files are missing or damaged */
export async function summarizeRun(path: string): Promise<RunSummary> {
  const run = await readReportRun(path);
  const { record } = run;
  const { training, evaluations, lastStep } = splitHistory(run.history);
  const config = record["config"];
  const name = textAt(config, "adapter", "name");
  const [rank, alpha] = ["rank", "alpha"].map((key) => numberAt(config, "adapter", "options", key));
  const keys = metricKeys(evaluations);
  const metrics = keys.flatMap((key) => {
    const last = pointsOf(evaluations, key).at(-1);
    return last === undefined ? [] : [[key, last.value] as const];
  });
  const best = keys.flatMap((key) => {
    const point = bestPoint(pointsOf(evaluations, key), key);
    return point === undefined ? [] : [[key, { step: point.step, value: point.value }] as const];
  });
  return {
    path,
    state: await runState(path, run),
    model: checkpointName(record) ?? textAt(config, "model", "name"),
    adapter: name === undefined ? undefined : { name, ...(rank && { rank }), ...(alpha && { alpha }) },
    optimizer: textAt(config, "optimizer", "name"),
    step: lastStep,
    totalSteps: numberAt(record, "totalSteps"),
    trainLoss: pointsOf(training, "loss").at(-1)?.value,
    metrics: Object.fromEntries(metrics),
    best: Object.fromEntries(best),
    samplesPerSecond: speedOf(run),
    startedAt: textAt(record, "startedAt"),
  };
}

/** Samples a second: as a finished run says, else from its tokens a second and the tokens of its samples so far. */
function speedOf({ record, history }: ReportRun): number | undefined {
  const { training, summary } = splitHistory(history);
  const said = summary?.["train_samples_per_second"];
  if (said !== undefined) return said;
  const last = training.at(-1);
  const option = (key: string): number | undefined => numberAt(record, "config", "training", key);
  const [batch, accumulation] = [option("perDeviceTrainBatchSize"), option("gradientAccumulationSteps")];
  const [tokens, pace] = [last?.["num_input_tokens_seen"], medianOf(pointsOf(training, "tokens_per_second"))];
  if (last === undefined || !tokens || !batch || pace === undefined) return undefined;
  return (pace * last.step * batch * (accumulation ?? 1)) / tokens;
}
