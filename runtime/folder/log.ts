/** A run's log as a file: metrics.jsonl. */
import { appendMetrics, syncMetrics, writeMetrics } from "./folder.ts";
import type { LogEntry } from "./trainer-state.ts";

/** Where log entries go. */
export interface RunLog {
  append(entry: LogEntry): Promise<void>;
  /** Makes metrics.jsonl outlast a loss of power. */
  sync(): Promise<void>;
}

/**
 * Opens the log of a run; `before` is the checkpoint from which it goes on, and of what was logged beyond it nothing stays.
 * @throws QloraError where a file cannot be written
 */
export async function openRunLog(
  outputDir: string,
  before: { readonly history: readonly LogEntry[] } | undefined,
): Promise<RunLog> {
  if (before !== undefined) await writeMetrics(outputDir, before.history);
  return {
    append: (entry) => appendMetrics(outputDir, entry),
    sync: () => syncMetrics(outputDir),
  };
}
