/** Where a run starts: in a new folder, perhaps from an adapter, or from a checkpoint. Checking writes nothing. */
import { existsSync } from "node:fs";
import { join, relative } from "node:path";
import { ConfigError } from "../../core/errors.ts";
import { ADAPTER_CONFIG_FILE, ADAPTER_WEIGHTS_FILE } from "../../core/formats/peft.ts";
import type { TrainingOptions } from "../config/training-options.ts";
import { isHubName } from "../hub/index.ts";
import { isFolder } from "../files/stat.ts";
import { leftBehind, namedCheckpoint, newestCheckpoint, unchecked } from "../folder/checkpoints.ts";
import { checkRunFolder, isCheckpointName } from "../folder/folder.ts";
import { type Lineage, UNRECORDED } from "../folder/lineage.ts";
import { requireWhole } from "../folder/manifest.ts";
import { readOwnRecord, readRunRecord, type RunRecord } from "../folder/record.ts";

/** What a run goes on from; nothing for a new one. */
export interface RunStart {
  /** Folder of the checkpoint. */
  readonly resume: string | undefined;
  /** run.json of the run that goes on. */
  readonly record: RunRecord | undefined;
  /** Lines that led to the checkpoint. */
  readonly lineage: Lineage;
  /** What is to be told of the choice. */
  readonly notes: readonly string[];
}

/**
 * Finds what a run goes on from, and that a new one may begin: cheap, and before anything is read or downloaded.
 * @throws ConfigError for an output folder that is taken, an adapter or a checkpoint that is not there; ModelError
 */
export async function resolveResume(training: TrainingOptions): Promise<RunStart> {
  const { outputDir, overwriteOutputDir, initAdapter, resumeFromCheckpoint } = training;
  if (resumeFromCheckpoint === false) {
    checkRunFolder(outputDir, overwriteOutputDir);
    if (initAdapter !== undefined) {
      checkAdapterFolder("training.initAdapter", initAdapter);
      const inRun = relative(outputDir, initAdapter);
      if (overwriteOutputDir && (inRun === "" || isCheckpointName(inRun))) {
        throw new ConfigError(
          "INIT_ADAPTER_OVERWRITTEN",
          `training.initAdapter: got ${initAdapter}, which overwriteOutputDir removes with the run in ${outputDir}`,
          { hint: "Choose another folder with --output-dir." },
        );
      }
    }
    return { resume: undefined, record: undefined, lineage: [], notes: [] };
  }
  return resumeFromCheckpoint === true ? newestStart(outputDir) : namedStart(resumeFromCheckpoint);
}

async function newestStart(outputDir: string): Promise<RunStart> {
  const record = await readOwnRecord(outputDir);
  const found = await newestCheckpoint(outputDir, record && linesOf(record));
  const { path, lineage, manifest, step } = found.newest;
  if (manifest !== undefined) await requireWhole(path, manifest);
  return { resume: path, record, lineage, notes: told(leftBehind(found, step), unchecked(found.newest)) };
}

async function namedStart(path: string): Promise<RunStart> {
  const record = await readRunRecord(path);
  const checkpoint = await namedCheckpoint(path, record && linesOf(record));
  if (checkpoint.manifest !== undefined) await requireWhole(path, checkpoint.manifest);
  return { resume: path, record, lineage: checkpoint.lineage, notes: told(unchecked(checkpoint)) };
}

const linesOf = ({ lineage = UNRECORDED }: RunRecord): Lineage => lineage;

const told = (...notes: readonly (string | undefined)[]): string[] => notes.filter((note) => note !== undefined);

/** A name on the hub is looked up later. @throws ConfigError where a folder is none or holds no adapter's files */
export function checkAdapterFolder(option: string, folder: string): void {
  if (isHubName(folder)) return;
  const files = [ADAPTER_WEIGHTS_FILE, ADAPTER_CONFIG_FILE];
  if (files.some((name) => existsSync(join(folder, name)))) return;
  const found = !existsSync(folder)
    ? "does not exist"
    : isFolder(folder)
      ? `holds no ${ADAPTER_WEIGHTS_FILE}`
      : "is a file";
  throw new ConfigError(
    "ADAPTER_NOT_FOUND",
    `${option}: ${folder} ${found}, expected the folder of a PEFT adapter, of a run, or of a checkpoint`,
    { hint: `A folder that serves holds ${files.toSorted().join(" and ")}.` },
  );
}
