/** The command line as one of several ranks, and what starts them: `--gpus`. */
import { hostname } from "node:os";
import { join } from "node:path";
import { ConfigError } from "../core/errors.ts";
import { localRankCommand, runRanks } from "../runtime/distributed/gpus.ts";
import { leaveWorld } from "../runtime/distributed/index.ts";
import { findLaunch, launchedRank } from "../runtime/distributed/launcher.ts";
import { placeOf } from "../runtime/distributed/trouble.ts";
import { checkpointPath, listCheckpoints } from "../runtime/folder/folder.ts";
import { peekFlag } from "./argv.ts";
import { DONE, FAILED, INTERRUPTED, TERMINATED, USAGE } from "./exit-codes.ts";
import { notes } from "./output.ts";

export { leaveWorld };

/** Commands that several ranks run together. */
const RANKED: readonly string[] = ["train", "eval", "predict", "cv", "sweep", "bench"];

/** How long the other ranks let rank 0 tell of an error that all of them have. */
const FIRST_MS = 2000;
/** Time for a launcher to read what a rank printed last. */
const PASS_MS = 500;

/** True for rank 0 and for a process alone: it writes files and talks. */
export const leads = (): boolean => launchedRank(process.env) === 0;

/** @throws ConfigError for a command that several processes would do several times */
export function checkRanked(name: string): void {
  if (RANKED.includes(name) || (findLaunch(process.env)?.size ?? 1) === 1) return;
  const message = `${name}: an MPI launcher started several processes, but this command runs in one`;
  throw new ConfigError("USAGE", message, { hint: `Start it without mpirun. Several ranks run ${RANKED.join(", ")}.` });
}

/**
 * Before an error is told: on other ranks rank 0 has a moment to tell it, and to end them.
 * @returns what to put before it; undefined where it is not to be told here
 */
export async function yourTurn(error: unknown): Promise<string | undefined> {
  if (!leads()) {
    if (error instanceof ConfigError && error.code === "USAGE") return undefined; // every rank has the same command line
    await Bun.sleep(FIRST_MS);
  }
  const place = placeOf(error) ?? (leads() ? undefined : `rank ${launchedRank(process.env)} on ${hostname()}`);
  return place === undefined ? "" : `${place}: `;
}

/** After an error was told: a launcher that is told to abort drops what it has not passed on yet. */
export async function passedOn(): Promise<void> {
  if (findLaunch(process.env) === undefined) return;
  await new Promise<void>((resolve) => process.stderr.write("", () => resolve()));
  await Bun.sleep(PASS_MS);
}

/** `--gpus` in a command line; undefined for none, and for one GPU, which needs no MPI. */
export function gpusOf(name: string, argv: readonly string[]): string | undefined {
  const gpus = peekFlag(argv, "gpus");
  return RANKED.includes(name) && gpus !== "1" ? gpus : undefined;
}

/** Runs this very command line on several GPUs. @param outputDir where its checkpoints lie @returns its exit code */
export async function onGpus(
  gpus: string,
  name: string,
  argv: readonly string[],
  outputDir: string | undefined,
): Promise<number> {
  const rest = argv.filter((word, i) => word !== "--gpus" && !word.startsWith("--gpus=") && argv[i - 1] !== "--gpus");
  const program = [process.execPath, ...process.execArgv, process.argv[1]!, name, ...rest];
  const ranks = await localRankCommand(gpus, program);
  notes.info(`starting ${ranks.command.map(quoted).join(" ")}`);
  const { code, stopped } = await runRanks(ranks);
  if (stopped !== undefined) return stopped === "SIGTERM" ? TERMINATED : INTERRUPTED;
  // Its own errors a rank tells itself; one that is killed cannot, and mpirun ends the others before they could.
  if (code !== DONE && code !== FAILED && code !== USAGE) notes.error(await killedText(code, outputDir));
  return code === DONE || code === USAGE ? code : FAILED;
}

async function killedText(code: number, outputDir: string | undefined): Promise<string> {
  const saved = outputDir === undefined ? [] : await listCheckpoints(outputDir);
  const last = saved.at(-1);
  const where =
    last === undefined
      ? ""
      : `; the last checkpoint is ${checkpointPath(outputDir!, last)}, from which --resume-from-checkpoint goes on`;
  const record = outputDir === undefined ? "" : `, whose rank ${join(outputDir, "run.json")} tells`;
  return `mpirun ended with code ${code}: a rank was killed (mpirun names the process${record}; the system's log says whether memory ran out)${where}`;
}

const quoted = (word: string): string =>
  /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", String.raw`'\''`)}'`;
