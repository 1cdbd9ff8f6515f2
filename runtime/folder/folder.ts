/**
 * A run is its folder: run.json (what ran), metrics.jsonl (as it goes), trainer_state.json, checkpoint-N/, and at the end the
 * adapter's files beside them, as transformers' `save_model` leaves them.
 */
import { existsSync } from "node:fs";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { ConfigError } from "../../core/errors.ts";
import { ADAPTER_CONFIG_FILE, ADAPTER_WEIGHTS_FILE } from "../../core/formats/peft.ts";
import { makeFolder, openToWrite, remove, syncFile } from "../files/disk.ts";
import { explainWriteErrors, writeFileAtomic } from "../files/files.ts";
import { tryLock } from "../files/lock.ts";
import { isFolder } from "../files/stat.ts";
import { EVALUATION_FILE } from "./evaluation-record.ts";
import { MANIFEST_FILE } from "./manifest.ts";
import type { LogEntry } from "./trainer-state.ts";

/** Names of files in a run's folder. */
export const RUN_FILES = {
  record: "run.json",
  metrics: "metrics.jsonl",
  state: "trainer_state.json",
  evaluation: EVALUATION_FILE,
  report: "report.html",
  /** What trackers have of the run. */
  reporters: "reporters.json",
} as const;

/** Held locked while a run writes its folder. */
const LOCK_FILE = ".lock";

/** Folder of TensorBoard's event files in a run's folder, where loggingDir names no other. */
export const EVENTS_FOLDER = "runs";

/** TensorBoard reads a folder's event files in the order of their names, so the time comes first. */
export const EVENT_FILE = /^events\.out\.tfevents\.(\d{10,})\./;

const CHECKPOINT = /^checkpoint-(0|[1-9]\d{0,14})$/;

/** Folder of the checkpoint after `step` optimizer steps. */
export function checkpointPath(outputDir: string, step: number): string {
  return join(outputDir, `checkpoint-${step}`);
}

/** True for `checkpoint-` and a number. */
export const isCheckpointName = (name: string): boolean => CHECKPOINT.test(name);

/** Steps of the folders checkpoint-N in a run's folder, ascending; checkpoints.ts tells which are whole. */
export async function listCheckpoints(outputDir: string): Promise<number[]> {
  if (!isFolder(outputDir)) return [];
  const steps = (await readdir(outputDir)).flatMap((name) => checkpointStep(name) ?? []);
  return steps.sort((a, b) => a - b);
}

/** The number in the name of a checkpoint's folder. */
export function checkpointStep(name: string): number | undefined {
  const digits = CHECKPOINT.exec(name)?.[1];
  return digits === undefined ? undefined : Number(digits);
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
export async function lockRunFolder(outputDir: string): Promise<AsyncDisposable> {
  const path = join(outputDir, LOCK_FILE);
  const lock = await explainWriteErrors(outputDir, () => tryLock(path));
  if (lock !== undefined) return lock;
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
      for (const step of await listCheckpoints(outputDir)) await remove(checkpointPath(outputDir, step));
      const events = join(outputDir, EVENTS_FOLDER);
      const files = existsSync(events) ? await readdir(events) : [];
      for (const name of files) if (EVENT_FILE.test(name)) await remove(join(events, name));
      // The record goes last: while anything is left, the folder holds a run.
      const { record, ...others } = RUN_FILES;
      const adapter = [ADAPTER_CONFIG_FILE, ADAPTER_WEIGHTS_FILE, MANIFEST_FILE];
      for (const name of [...Object.values(others), ...adapter, record]) await remove(join(outputDir, name));
    }
    await makeFolder(outputDir);
  });
}

/** Writes JSON, two spaces and a final newline, whole or not at all. */
export async function writeJson(path: string, value: unknown): Promise<void> {
  await writeFileAtomic(path, `${JSON.stringify(value, null, 2)}\n`);
}

/** Adds a line to metrics.jsonl. */
export async function appendMetrics(outputDir: string, entry: LogEntry): Promise<void> {
  const path = join(outputDir, RUN_FILES.metrics);
  await explainWriteErrors(path, async () => {
    await using file = await openToWrite(path, "a");
    await file.write(Buffer.from(metricsLine(entry)));
  });
}

/** Makes the lines of metrics.jsonl outlast a loss of power. */
export async function syncMetrics(outputDir: string): Promise<void> {
  const path = join(outputDir, RUN_FILES.metrics);
  if (existsSync(path)) await explainWriteErrors(path, () => syncFile(path));
}

/** Rewrites metrics.jsonl for a run that resumes: its checkpoint's history, and nothing of what came after it. */
export async function writeMetrics(outputDir: string, history: readonly LogEntry[]): Promise<void> {
  await writeFileAtomic(join(outputDir, RUN_FILES.metrics), history.map(metricsLine).join(""));
}

const metricsLine = (entry: LogEntry): string => `${JSON.stringify(entry)}\n`;
