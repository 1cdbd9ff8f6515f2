/** A run's log as files: metrics.jsonl always, and TensorBoard's event files where training.reportTo asks for them. */
import { join } from "node:path";
import type { TrainingOptions } from "../config/training-options.ts";
import { appendMetrics, EVENTS_FOLDER, syncMetrics, writeMetrics } from "./folder.ts";
import { openEventLog } from "./tensorboard.ts";
import type { LogEntry } from "./trainer-state.ts";

/** Where log entries go. */
export interface RunLog extends AsyncDisposable {
  append(entry: LogEntry): Promise<void>;
  /** Makes metrics.jsonl outlast a loss of power. */
  sync(): Promise<void>;
}

/**
 * Opens the log of a run; `before` is the checkpoint from which it goes on, and of what was logged beyond it nothing stays.
 * @throws QloraError where a file cannot be written
 */
export async function openRunLog(
  { outputDir, reportTo, loggingDir }: Pick<TrainingOptions, "outputDir" | "reportTo" | "loggingDir">,
  before: { readonly step: number; readonly history: readonly LogEntry[] } | undefined,
): Promise<RunLog> {
  if (before !== undefined) await writeMetrics(outputDir, before.history);
  const events = reportTo.includes("tensorboard")
    ? await openEventLog(loggingDir ?? join(outputDir, EVENTS_FOLDER), before === undefined ? 0 : before.step + 1)
    : undefined;
  return {
    async append(entry) {
      await appendMetrics(outputDir, entry);
      await events?.write(entry);
    },
    sync: () => syncMetrics(outputDir),
    [Symbol.asyncDispose]: async () => events?.[Symbol.asyncDispose](),
  };
}
