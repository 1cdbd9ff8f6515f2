/** A run's log as files: metrics.jsonl always, and TensorBoard's event files where training.reportTo asks for them. */
import { join } from "node:path";
import { openEventLog } from "../formats/tensorboard.ts";
import type { TrainingOptions } from "../options/training-options.ts";
import { appendMetrics, EVENTS_FOLDER, rewindMetrics } from "./folder.ts";
import type { LogEntry } from "./trainer-state.ts";

/** Where log entries go. */
export interface RunLog extends AsyncDisposable {
  append(entry: LogEntry): Promise<void>;
}

/**
 * Opens the log of a run; `resumedAt` is the step from which it goes on, and what was logged beyond it is dropped.
 * @throws QloraError METRICS_DAMAGED, or that a file cannot be written
 */
export async function openRunLog(
  { outputDir, reportTo, loggingDir }: Pick<TrainingOptions, "outputDir" | "reportTo" | "loggingDir">,
  resumedAt: number | undefined,
): Promise<RunLog> {
  if (resumedAt !== undefined) await rewindMetrics(outputDir, resumedAt);
  const events = reportTo.includes("tensorboard")
    ? await openEventLog(loggingDir ?? join(outputDir, EVENTS_FOLDER), resumedAt === undefined ? 0 : resumedAt + 1)
    : undefined;
  return {
    async append(entry) {
      await appendMetrics(outputDir, entry);
      await events?.write(entry);
    },
    [Symbol.asyncDispose]: async () => events?.[Symbol.asyncDispose](),
  };
}
