/** Whether a run goes on, as far as its folder tells. */
import { stat } from "node:fs/promises";
import { join } from "node:path";
import { RUN_FILES } from "../folder/folder.ts";
import { summaryOf } from "./history.ts";
import { textAt, type ReportRun } from "./run.ts";

/** `running` is a guess: it has not stopped by itself, and wrote something not long ago. */
export type RunState = "running" | "finished" | "interrupted";

/** A run that is silent for less than this may still be at work. */
const PATIENCE_MS = 10 * 60_000;
/** The first entry comes after kernels are compiled and `loggingSteps` steps are done. */
const FIRST_PATIENCE_MS = 60 * 60_000;
/** Silence of this many intervals between log entries is more than an evaluation takes. */
const INTERVALS = 5;

/** Files whose times tell that a run is at work. */
const SIGNS_OF_LIFE = [RUN_FILES.record, RUN_FILES.metrics, RUN_FILES.evaluation] as const;

/** The state of a run whose folder was just read; `now` is in milliseconds since 1970. */
export async function runState(outputDir: string, run: ReportRun, now: number = Date.now()): Promise<RunState> {
  if (summaryOf(run.history) !== undefined) return "finished";
  const times = await Promise.all(SIGNS_OF_LIFE.map((name) => timeOf(join(outputDir, name))));
  const last = Math.max(...times);
  // The trainer writes it when it leaves its loop, and a resumed run rewrites run.json.
  if ((await timeOf(join(outputDir, RUN_FILES.state))) >= last) return "interrupted";
  return now - last > patience(run, last) ? "interrupted" : "running";
}

function patience({ record, history }: ReportRun, last: number): number {
  if (history.length === 0) return FIRST_PATIENCE_MS;
  const started = Date.parse(textAt(record, "startedAt") ?? "");
  const interval = Number.isNaN(started) ? 0 : (last - started) / history.length;
  return Math.max(PATIENCE_MS, INTERVALS * interval);
}

/** When a file was last written, in milliseconds; 0 where there is none. */
async function timeOf(path: string): Promise<number> {
  const found = await stat(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return undefined;
    throw error;
  });
  return found?.mtimeMs ?? 0;
}
