import type { RunListener } from "../core/events.ts";
import { INTERRUPTED } from "./exit-codes.ts";

/** Runs `work` under a signal: the first SIGINT or SIGTERM aborts it, the second leaves at once. */
export async function interruptible<T>(listen: RunListener, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const stop = new AbortController();
  const onSignal = (): void => {
    if (stop.signal.aborted) process.exit(INTERRUPTED);
    stop.abort();
    listen({ type: "warning", message: "interrupted: finishing the step and saving; once more leaves at once" });
  };
  process.on("SIGINT", onSignal).on("SIGTERM", onSignal);
  try {
    return await work(stop.signal);
  } finally {
    process.off("SIGINT", onSignal).off("SIGTERM", onSignal);
  }
}
