/** Several ranks on this machine, for tests; a visible skip where there is no MPI. */
import { join } from "node:path";

const found = Bun.which("mpirun");
if (found === null) console.error("SKIPPED: no mpirun for the tests of several ranks; install mpich or openmpi-bin");

/** False where there is no MPI. */
export const hasMpi = found !== null;

const cli = join(import.meta.dir, "../../cli/main.ts");

/** What ranks printed, and mpirun's exit code. */
export interface RanksEnded {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Ranks under way. */
export interface Ranks {
  readonly process: Bun.Subprocess<"ignore", "pipe", "pipe">;
  readonly ended: Promise<RanksEnded>;
}

const AS_ROOT = {
  OMPI_ALLOW_RUN_AS_ROOT: "1",
  OMPI_ALLOW_RUN_AS_ROOT_CONFIRM: "1",
  OMPI_MCA_rmaps_base_oversubscribe: "1",
};

/** Starts a program of bun. */
export function start(command: readonly string[], env: Readonly<Record<string, string>> = {}): Ranks {
  const child = Bun.spawn([...command], {
    env: { ...process.env, ...AS_ROOT, ...env },
    stdio: ["ignore", "pipe", "pipe"],
  });
  const ended = Promise.all([child.exited, new Response(child.stdout).text(), new Response(child.stderr).text()]);
  return { process: child, ended: ended.then(([code, stdout, stderr]) => ({ code, stdout, stderr })) };
}

/** A script or the command line on `ranks` ranks. */
export const startRanks = (ranks: number, program: readonly string[], env?: Readonly<Record<string, string>>): Ranks =>
  start(["mpirun", "-n", String(ranks), "--bind-to", "none", process.execPath, ...program], env);

/** The same, to its end. */
export const runRanks = (
  ranks: number,
  program: readonly string[],
  env?: Readonly<Record<string, string>>,
): Promise<RanksEnded> => startRanks(ranks, program, env).ended;

/** Arguments of the command line. */
export const qloraProgram = (...argv: readonly string[]): string[] => [cli, ...argv];
