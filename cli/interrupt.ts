import { readFileSync } from "node:fs";
import { findLaunch } from "../runtime/distributed/launcher.ts";
import type { RunListener } from "../runtime/events.ts";
import { INTERRUPTED, TERMINATED } from "./exit-codes.ts";

/** Signals that stop a command, and the code that it ends with. */
const CODES = { SIGINT: INTERRUPTED, SIGHUP: INTERRUPTED, SIGTERM: TERMINATED, SIGUSR1: INTERRUPTED } as const;
type StopSignal = keyof typeof CODES;

let last: StopSignal | undefined;

/** The exit code of a command that was stopped. */
export const interruptCode = (): number => (last === undefined ? INTERRUPTED : CODES[last]);

/** True under nohup, which wants a lost terminal to stop nothing; known on Linux alone. */
function ignoresHangup(): boolean {
  if (process.platform !== "linux") return false;
  const mask = /^SigIgn:\s*([0-9a-f]+)$/m.exec(readFileSync("/proc/self/status", "utf8"))?.[1] ?? "0";
  return (BigInt(`0x${mask}`) & 1n) === 1n;
}

const nohup = ignoresHangup();

/** Calls `stop` for each signal that ends a command; the function that is returned ends that. */
export function onStop(stop: (again: boolean) => void): () => void {
  // Launchers pass SIGUSR1 on and leave the ranks time to save, which Open MPI's does after no other signal.
  const ranked = findLaunch(process.env) !== undefined;
  const heard = (signal: StopSignal): boolean => (signal === "SIGUSR1" ? ranked : signal !== "SIGHUP" || !nohup);
  const signals = (Object.keys(CODES) as StopSignal[]).filter(heard);
  let stopped = false;
  const listen = (signal: StopSignal): void => {
    last = signal;
    const again = stopped;
    stopped = true;
    stop(again);
  };
  for (const signal of signals) process.on(signal, listen);
  return () => {
    for (const signal of signals) process.off(signal, listen);
  };
}

/**
 * Runs `work` under a signal: the first SIGINT, SIGTERM or SIGHUP aborts it, the second leaves at once.
 * @param finishing what is still done, as in `finishing the step and saving`
 */
export async function interruptible<T>(
  listen: RunListener,
  work: (signal: AbortSignal) => Promise<T>,
  finishing = "finishing the step and saving",
): Promise<T> {
  const abort = new AbortController();
  const off = onStop((again) => {
    if (again) process.exit(interruptCode());
    abort.abort();
    listen({ type: "warning", message: `interrupted: ${finishing}; once more leaves at once` });
  });
  try {
    return await work(abort.signal);
  } finally {
    off();
  }
}
