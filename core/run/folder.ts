/**
 * A run is its folder: run.json (what ran), metrics.jsonl (as it goes), trainer_state.json, checkpoint-N/, and at the end the
 * adapter's files beside them, as transformers' `save_model` leaves them.
 */
import { appendFile, mkdir, readdir, readFile, rm } from "node:fs/promises";
import { existsSync, statSync } from "node:fs";
import { join } from "node:path";
import { ConfigError, QloraError } from "../errors.ts";
import { explainWriteErrors, writeFileAtomic, writeFolderAtomic } from "../files.ts";
import { ADAPTER_CONFIG_FILE, ADAPTER_WEIGHTS_FILE } from "../formats/peft.ts";
import { tryLock } from "../lock.ts";
import { EVALUATION_FILE } from "../report/evaluation-record.ts";
import type { LogEntry } from "./trainer-state.ts";

/** Names of files in a run's folder. */
export const RUN_FILES = {
  record: "run.json",
  metrics: "metrics.jsonl",
  state: "trainer_state.json",
  evaluation: EVALUATION_FILE,
  report: "report.html",
} as const;

/** Held locked while a run writes its folder. */
const LOCK_FILE = ".lock";

/** Folder of TensorBoard's event files in a run's folder, where loggingDir names no other. */
export const EVENTS_FOLDER = "runs";

/** TensorBoard reads a folder's event files in the order of their names, so the time comes first. */
export const EVENT_FILE = /^events\.out\.tfevents\.(\d{10,})\./;

const CHECKPOINT = /^checkpoint-(\d+)$/;

/** Folder of the checkpoint after `step` optimizer steps. */
export function checkpointPath(outputDir: string, step: number): string {
  return join(outputDir, `checkpoint-${step}`);
}

/** True for `checkpoint-` and a number. */
export const isCheckpointName = (name: string): boolean => CHECKPOINT.test(name);

/** True for a folder that is there. */
export const isFolder = (path: string): boolean => statSync(path, { throwIfNoEntry: false })?.isDirectory() === true;

/** Steps of the whole checkpoints in a run's folder, ascending. */
export async function listCheckpoints(outputDir: string): Promise<number[]> {
  if (!isFolder(outputDir)) return [];
  const steps = (await readdir(outputDir)).flatMap((name) => CHECKPOINT.exec(name)?.[1] ?? []);
  return steps.map(Number).sort((a, b) => a - b);
}

/** @throws ConfigError where the folder of a new run already holds one and `overwrite` is false, or is a file */
export function checkRunFolder(outputDir: string, overwrite: boolean): void {
  if (existsSync(outputDir) && !isFolder(outputDir)) {
    throw new ConfigError("OUTPUT_DIR_TAKEN", `outputDir: ${outputDir} is a file, expected a folder`, {
      hint: "Choose another with --output-dir.",
    });
  }
  if (!overwrite && existsSync(join(outputDir, RUN_FILES.record))) {
    throw new ConfigError("OUTPUT_DIR_TAKEN", `outputDir: ${outputDir} already holds a run`, {
      hint: "Choose another folder, go on with --resume-from-checkpoint, or replace it with --overwrite-output-dir.",
    });
  }
}

/**
 * Makes the folder of a run where there is none, and holds it until disposed: two runs would mix their files.
 * @throws ConfigError where another run holds it; QloraError where it cannot be written
 */
export async function holdRunFolder(outputDir: string): Promise<AsyncDisposable> {
  const path = join(outputDir, LOCK_FILE);
  const lock = await explainWriteErrors(outputDir, () => tryLock(path));
  if (lock !== undefined) {
    return {
      [Symbol.asyncDispose]: async () => {
        await using _ = lock; // let go after the file is removed
        await rm(path, { force: true });
      },
    };
  }
  throw new ConfigError("OUTPUT_DIR_BUSY", `outputDir: another run is writing ${outputDir} now`, {
    hint: "Wait for it to end, or choose another folder with --output-dir.",
  });
}

/**
 * Empties the folder of a new run of what a run before left in it, the adapter included: it would be taken for this run's.
 * @throws ConfigError as `checkRunFolder`
 */
export async function createRunFolder(outputDir: string, overwrite: boolean): Promise<void> {
  checkRunFolder(outputDir, overwrite);
  await explainWriteErrors(outputDir, async () => {
    if (existsSync(join(outputDir, RUN_FILES.record))) {
      for (const step of await listCheckpoints(outputDir))
        await rm(checkpointPath(outputDir, step), { recursive: true });
      for (const name of [...Object.values(RUN_FILES), ADAPTER_CONFIG_FILE, ADAPTER_WEIGHTS_FILE])
        await rm(join(outputDir, name), { force: true });
      const events = join(outputDir, EVENTS_FOLDER);
      const files = existsSync(events) ? await readdir(events) : [];
      for (const name of files) if (EVENT_FILE.test(name)) await rm(join(events, name));
    }
    await mkdir(outputDir, { recursive: true });
  });
}

/** Writes JSON, two spaces and a final newline, whole or not at all. */
export async function writeJson(path: string, value: unknown): Promise<void> {
  await writeFileAtomic(path, `${JSON.stringify(value, null, 2)}\n`);
}

/** Adds a line to metrics.jsonl. */
export async function appendMetrics(outputDir: string, entry: LogEntry): Promise<void> {
  const path = join(outputDir, RUN_FILES.metrics);
  await explainWriteErrors(path, () => appendFile(path, `${JSON.stringify(entry)}\n`));
}

/** Drops the lines of metrics.jsonl that lie beyond `step`, for a run that goes on from there. */
export async function rewindMetrics(outputDir: string, step: number): Promise<void> {
  const path = join(outputDir, RUN_FILES.metrics);
  if (!existsSync(path)) return;
  const lines = (await readFile(path, "utf8")).split("\n").filter((line) => line !== "");
  const kept = lines.filter((line, i) => {
    const entry = parseEntry(line);
    // A process killed while it appended leaves half a last line.
    if (entry === undefined && i < lines.length - 1)
      throw new QloraError("METRICS_DAMAGED", `${path}:${i + 1}: not a line of JSON`);
    return entry !== undefined && (entry["step"] ?? 0) <= step;
  });
  await writeFileAtomic(path, kept.map((line) => `${line}\n`).join(""));
}

function parseEntry(line: string): LogEntry | undefined {
  try {
    return JSON.parse(line) as LogEntry;
  } catch {
    return undefined;
  }
}

/** Writes checkpoint-`step` whole or not at all, then removes the oldest beyond `keep`. @returns its path */
export async function saveCheckpoint(
  outputDir: string,
  step: number,
  keep: number | undefined,
  write: (directory: string) => Promise<void>,
): Promise<string> {
  const path = checkpointPath(outputDir, step);
  await writeFolderAtomic(path, write);
  const steps = await listCheckpoints(outputDir);
  const surplus = keep === undefined ? [] : steps.slice(0, Math.max(0, steps.length - keep));
  for (const old of surplus) if (old !== step) await rm(checkpointPath(outputDir, old), { recursive: true });
  return path;
}

/**
 * The checkpoint to go on from: the folder named, or the newest one.
 * @throws ConfigError where there is none
 */
export async function findCheckpoint(outputDir: string, resume: string | true): Promise<string> {
  if (resume !== true) {
    if (existsSync(resume)) return resume;
    throw new ConfigError("CHECKPOINT_NOT_FOUND", `resumeFromCheckpoint: ${resume} does not exist`, {
      hint: "Name a folder checkpoint-N that qlora train wrote, or leave the name out for the newest in --output-dir.",
    });
  }
  const newest = (await listCheckpoints(outputDir)).at(-1);
  if (newest !== undefined) return checkpointPath(outputDir, newest);
  throw new ConfigError("CHECKPOINT_NOT_FOUND", `resumeFromCheckpoint: ${outputDir} holds no checkpoint`, {
    hint: "Start without --resume-from-checkpoint, or name the folder of a checkpoint.",
  });
}
