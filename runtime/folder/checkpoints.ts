/** The checkpoints of a run: saved whole, found by the line of the run that they lie on, and removed beyond the limit. */
import { existsSync } from "node:fs";
import { basename } from "node:path";
import { ConfigError, ModelError } from "../../core/errors.ts";
import { remove, rename } from "../files/disk.ts";
import { explainWriteErrors, writeFolderAtomic } from "../files/files.ts";
import { checkpointPath, checkpointStep, listCheckpoints, RUN_FILES } from "./folder.ts";
import { isOnLine, type Lineage, leftAt, UNRECORDED, UNRECORDED_LINE } from "./lineage.ts";
import { type Manifest, MANIFEST_FILE, readManifest, writeManifest } from "./manifest.ts";

/** A checkpoint that says what it is. */
export interface Checkpoint {
  readonly path: string;
  readonly step: number;
  readonly lineage: Lineage;
  /** Undefined for one of qlora 0.1.0. */
  readonly manifest: Manifest | undefined;
}

/**
 * What the folder of a checkpoint says that it is; its files are not looked at.
 * @param living of the run that it belongs to; undefined where none is known
 * @throws ModelError CHECKPOINT_INCOMPLETE, MANIFEST_DAMAGED
 */
export async function readCheckpoint(path: string, living: Lineage | undefined): Promise<Checkpoint> {
  const manifest = await readManifest(path);
  const named = checkpointStep(basename(path));
  if (manifest !== undefined) {
    const { step, lineage } = manifest;
    if (named === undefined || named === step) return { path, step, lineage, manifest };
    throw new ModelError("CHECKPOINT_DAMAGED", `${path}: ${MANIFEST_FILE} is that of step ${step}`, {
      hint: `Give the folder its name back, checkpoint-${step}.`,
    });
  }
  if (named !== undefined && !existsSync(path)) throw notThere(path);
  if (living === undefined || living[0]!.line === UNRECORDED_LINE)
    return { path, step: named ?? 0, lineage: UNRECORDED, manifest };
  throw new ModelError("CHECKPOINT_INCOMPLETE", `${path}: has no ${MANIFEST_FILE}, which is written last`, {
    hint: "It was being saved or deleted when its process ended; qlora verify RUN tells what of a run is whole.",
  });
}

const notThere = (path: string): ConfigError =>
  new ConfigError("CHECKPOINT_NOT_FOUND", `resumeFromCheckpoint: ${path} does not exist`, {
    hint: "Name a folder checkpoint-N that qlora train wrote, or leave the name out for the newest in --output-dir.",
  });

/** The checkpoints in a run's folder, by what has become of them; each ascending. */
export interface RunCheckpoints {
  /** On the way to where the run stands. */
  readonly living: readonly Checkpoint[];
  /** Left behind when the run went back to an earlier one. */
  readonly left: readonly Checkpoint[];
  /** Not whole, as far as their manifest tells. */
  readonly broken: readonly { readonly path: string; readonly step: number; readonly error: ModelError }[];
  /** The line that `living` lies on. */
  readonly lineage: Lineage;
}

/** Reads what the checkpoints of a run say. @param recorded lineage of run.json; without it the last start among them is taken */
export async function readCheckpoints(outputDir: string, recorded: Lineage | undefined): Promise<RunCheckpoints> {
  const found: Checkpoint[] = [];
  const broken: RunCheckpoints["broken"][number][] = [];
  for (const step of await listCheckpoints(outputDir)) {
    const path = checkpointPath(outputDir, step);
    try {
      found.push(await readCheckpoint(path, recorded));
    } catch (error) {
      if (!(error instanceof ModelError)) throw error;
      broken.push({ path, step, error });
    }
  }
  const longest = found.toSorted((a, b) => a.lineage.length - b.lineage.length || a.step - b.step).at(-1);
  const lineage = recorded ?? longest?.lineage ?? UNRECORDED;
  const isLiving = (checkpoint: Checkpoint): boolean => isOnLine(checkpoint, lineage);
  return { living: found.filter(isLiving), left: found.filter((each) => !isLiving(each)), broken, lineage };
}

/** What is to be told of checkpoints beyond the one that is taken; undefined where there are none. */
export function leftBehind({ left, lineage }: RunCheckpoints, taken: number): string | undefined {
  const later = left.filter(({ step }) => step > taken);
  if (later.length === 0) return undefined;
  const names = later.map(({ path }) => basename(path)).join(", ");
  const went = leftAt(later.at(-1)!.lineage, lineage);
  return `${names}: left aside, for the run went back to step ${went} after ${later.length === 1 ? "it" : "them"}`;
}

/** What is to be told of a checkpoint of qlora 0.1.0; undefined for any other. */
export function unchecked({ path, manifest }: Pick<Checkpoint, "path" | "manifest">): string | undefined {
  if (manifest !== undefined) return undefined;
  return `${path} has no ${MANIFEST_FILE}, as those of qlora 0.1.0: its files are taken unchecked`;
}

/** Writes checkpoint-N whole or not at all; removing older ones waits for `pruneCheckpoints`. @returns its path */
export async function saveCheckpoint(
  outputDir: string,
  { step, lineage }: Pick<Manifest, "step" | "lineage">,
  write: (directory: string) => Promise<void>,
): Promise<string> {
  const path = checkpointPath(outputDir, step);
  await writeFolderAtomic(path, async (directory) => {
    await write(directory);
    await writeManifest(directory, { step, lineage });
  });
  return path;
}

/** Which checkpoints stay. */
export interface KeepRule {
  /** How many; undefined: all. */
  readonly limit: number | undefined;
  /** Step of one that stays whatever its age. */
  readonly best?: number | undefined;
  /** Whether the newest stays beside the best where only one may. */
  readonly newest: boolean;
}

/** Removes the oldest checkpoints of the living line that the rule does not keep. */
export async function pruneCheckpoints(
  outputDir: string,
  lineage: Lineage,
  { limit, best, newest: keepsNewest }: KeepRule,
): Promise<void> {
  if (limit === undefined) return;
  const { living } = await readCheckpoints(outputDir, lineage);
  const newest = living.at(-1)?.step;
  const spared = new Set(living.some(({ step }) => step === best) ? [best] : []);
  if (keepsNewest || limit > 1 || spared.size === 0) spared.add(newest);
  const removable = living.filter(({ step }) => !spared.has(step));
  const excess = living.length - Math.max(limit, spared.size);
  for (const old of removable.slice(0, Math.max(0, excess))) await removeCheckpoint(old.path);
}

/** Takes the name away first: what a process that ends here leaves is no checkpoint, and the next save removes it. */
export async function removeCheckpoint(path: string): Promise<void> {
  await explainWriteErrors(path, async () => {
    const aside = `${path}.tmp-${process.pid}`;
    await rename(path, aside);
    await remove(aside);
  });
}

/**
 * The checkpoint to go on from, where none is named: the newest of the living line.
 * @throws ConfigError where there is none; ModelError where it is not whole
 */
export async function newestCheckpoint(
  outputDir: string,
  recorded: Lineage | undefined,
): Promise<RunCheckpoints & { readonly newest: Checkpoint }> {
  const all = await readCheckpoints(outputDir, recorded);
  const newest = all.living.at(-1);
  const broken = all.broken.findLast(({ step }) => step > (newest?.step ?? -1));
  if (broken !== undefined) throw broken.error;
  if (newest !== undefined) return { ...all, newest };
  const others = all.left.length === 0 ? "" : ` of the line that ${RUN_FILES.record} says it is on`;
  throw new ConfigError("CHECKPOINT_NOT_FOUND", `resumeFromCheckpoint: ${outputDir} holds no checkpoint${others}`, {
    hint: "Start without --resume-from-checkpoint, or name the folder of a checkpoint.",
  });
}

/** The folder that `training.resumeFromCheckpoint` names. @throws ConfigError where it is not there; ModelError where it is not whole */
export async function namedCheckpoint(path: string, living: Lineage | undefined): Promise<Checkpoint> {
  if (!existsSync(path)) throw notThere(path);
  return readCheckpoint(path, living);
}
