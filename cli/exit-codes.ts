/** What the command line ends with; docs/commands.md has the same table. */
import { ConfigError, PluginError, QloraError } from "../core/errors.ts";

export const DONE = 0;
export const FAILED = 1;
export const USAGE = 2;
export const INTERRUPTED = 130;
export const TERMINATED = 143;

/** Each code and what it means. */
export const EXIT_CODES: readonly (readonly [code: number, meaning: string])[] = [
  [DONE, "done"],
  [FAILED, "failed: the data, a checkpoint, the GPU, the disk or the network; or doctor's self-test is wrong"],
  [USAGE, "the command line, the config or a plugin is to be mended; the same command would end the same"],
  [INTERRUPTED, "interrupted; after one Ctrl-C train and cv have saved, and go on from there"],
  [TERMINATED, "the same, by SIGTERM"],
];

/** The code of what a command threw. */
export function exitCodeOf(error: unknown): number {
  if (error instanceof QloraError && error.code === "INTERRUPTED") return INTERRUPTED;
  return error instanceof ConfigError || error instanceof PluginError ? USAGE : FAILED;
}
