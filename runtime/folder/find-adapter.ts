/** The trained adapter that a folder stands for: of a run its end, or the newest state (the best, where it is to end with that), whole, and a word on what was taken where there is a choice. */
import { existsSync } from "node:fs";
import { basename, join, resolve } from "node:path";
import { ModelError } from "../../core/errors.ts";
import { ADAPTER_CONFIG_FILE, readAdapterConfig } from "../../core/formats/peft.ts";
import type { RunListener } from "../events.ts";
import { openFolder } from "../files/folder.ts";
import { adapterFolder } from "../hub/index.ts";
import { type AdapterNotes, readAdapterNotes } from "./adapter-notes.ts";
import { bestCheckpoint } from "./best-checkpoint.ts";
import {
  type Checkpoint,
  leftBehind,
  readCheckpoint,
  readCheckpoints,
  type RunCheckpoints,
  unchecked,
} from "./checkpoints.ts";
import { stepStopped } from "./ended.ts";
import { checkpointStep } from "./folder.ts";
import { isOnLine, type Lineage, leftAt, UNRECORDED, UNRECORDED_LINE } from "./lineage.ts";
import { ADAPTER_FILES, type Manifest, MANIFEST_FILE, readManifest, requireWhole } from "./manifest.ts";
import { readOwnRecord, readRunRecord, type RunRecord } from "./record.ts";

/** A trained adapter's folder, and the run it came from where that is known. */
export interface TrainedAdapter {
  readonly directory: string;
  readonly config: Readonly<Record<string, unknown>>;
  readonly record: RunRecord | undefined;
  /** What stands beside the adapter, for want of a record. */
  readonly beside: AdapterNotes;
  /** What is to be told of the choice. */
  readonly notes: readonly string[];
}

/** An adapter that may be taken. */
interface Candidate {
  readonly directory: string;
  readonly manifest: Manifest | undefined;
  readonly notes: readonly (string | undefined)[];
}

/**
 * Finds the adapter of a run (its newest state: its own, or that of a checkpoint), of a checkpoint, or of a PEFT adapter's
 * folder, or of
 * its name on the hub, and checks its files against their manifest.
 * @throws ModelError where there is none, or it is not whole
 */
export async function findAdapter(name: string, onEvent?: RunListener): Promise<TrainedAdapter> {
  const run = await adapterFolder(name, onEvent);
  const own = await readOwnRecord(run);
  const { directory, manifest, notes } = await (own === undefined ? inFolder(run) : inRun(run, own));
  if (manifest !== undefined) await requireWhole(directory, manifest, ADAPTER_FILES);
  return {
    directory,
    config: await readAdapterConfig(openFolder(directory)),
    record: own ?? (await readRunRecord(directory)),
    beside: await readAdapterNotes(directory),
    notes: notes.filter((note) => note !== undefined),
  };
}

const holdsAdapter = (folder: string): boolean => existsSync(join(folder, ADAPTER_CONFIG_FILE));

/** A checkpoint, a PEFT adapter, or a folder of checkpoints whose record is lost. */
async function inFolder(folder: string): Promise<Candidate> {
  const record = await readRunRecord(folder);
  if (holdsAdapter(folder) || existsSync(join(folder, MANIFEST_FILE))) {
    const isCheckpoint = checkpointStep(basename(resolve(folder))) !== undefined;
    const living = record !== undefined && isCheckpoint ? (record.lineage ?? UNRECORDED) : undefined;
    const checkpoint = await readCheckpoint(folder, living);
    return { directory: folder, manifest: checkpoint.manifest, notes: [living && unchecked(checkpoint)] };
  }
  const checkpoints = await readCheckpoints(folder, undefined);
  const newest = checkpoints.living.at(-1);
  if (newest === undefined) throw notFound(folder, checkpoints);
  return {
    directory: newest.path,
    manifest: newest.manifest,
    notes: [unfinished(folder, newest.path), leftBehind(checkpoints, newest.step)],
  };
}

const unfinished = (run: string, directory: string): string =>
  `${run} holds no finished adapter: that of its newest checkpoint is taken, ${directory}`;

function notFound(run: string, { broken }: RunCheckpoints): ModelError {
  const last = broken.at(-1);
  if (last !== undefined) return last.error;
  return new ModelError(
    "ADAPTER_NOT_FOUND",
    `${run}: there is no ${ADAPTER_CONFIG_FILE}, and no checkpoint that holds one`,
    {
      hint: "Name a run's output folder, one of its checkpoints, or a PEFT adapter.",
    },
  );
}

/** What a run saved when it ended. */
interface Ended {
  /** Undefined where it is not known. */
  readonly step: number | undefined;
  /** False where its manifest is missing: the process ended while it saved. */
  readonly whole: boolean;
  readonly manifest: Manifest | undefined;
  /** The step at which the run left the line that it lies on; undefined where it lies on the living one. */
  readonly leftAt: number | undefined;
}

async function inRun(run: string, record: RunRecord): Promise<Candidate> {
  const { lineage = UNRECORDED } = record;
  const checkpoints = await readCheckpoints(run, lineage);
  const newest = checkpoints.living.at(-1);
  const ended = await endedRun(run, lineage);
  if (ended !== undefined && isNewest(ended, newest)) {
    const best = await bestCheckpoint(run, record);
    const notes = [
      leftSince(run, ended, newest),
      best && `${run}: its adapter is that of the best checkpoint, step ${best.step}: ${best.why}`,
      unchecked({ path: run, manifest: ended.manifest }),
    ];
    return { directory: run, manifest: ended.manifest, notes };
  }
  if (newest === undefined) {
    if (ended === undefined || checkpoints.broken.length > 0) throw notFound(run, checkpoints);
    const message = `${run}: its adapter has no ${MANIFEST_FILE}, which is written last, and there is no checkpoint`;
    const hint = "The run ended while it saved: train it again with --overwrite-output-dir.";
    throw new ModelError("ADAPTER_INCOMPLETE", message, { hint });
  }
  const best = await bestCheckpoint(newest.path, record);
  const kept = checkpoints.living.find(({ step }) => step === best?.step);
  if (kept !== undefined && kept !== newest) {
    const message = `${run} holds no finished adapter: that of its best checkpoint is taken, ${kept.path}: ${best!.why}`;
    return { directory: kept.path, manifest: kept.manifest, notes: [message, unchecked(kept)] };
  }
  const why =
    ended === undefined
      ? unfinished(run, newest.path)
      : `${run}: ${reason(ended)}; taken is the newest state, ${newest.path}`;
  const notes = [why, leftBehind(checkpoints, newest.step), unchecked(newest)];
  return { directory: newest.path, manifest: newest.manifest, notes };
}

function isNewest({ whole, step, leftAt: left }: Ended, newest: Checkpoint | undefined): boolean {
  if (newest === undefined) return whole;
  return whole && left === undefined && step !== undefined && step >= newest.step;
}

function leftSince(run: string, { step, leftAt: left }: Ended, newest: Checkpoint | undefined): string | undefined {
  if (left === undefined || newest !== undefined) return undefined;
  return `${run}: its adapter is that of step ${step}; the run went back to step ${left} after it, and has saved nothing since`;
}

function reason({ step, leftAt: left }: Ended): string {
  if (step === undefined) return "its own adapter is not of a run that has ended since";
  if (left !== undefined)
    return `its own adapter is that of step ${step}, and the run went back to step ${left} after it`;
  return `its own adapter is that of step ${step}, and the run went on after it`;
}

/** The adapter beside run.json; undefined where there is none. */
async function endedRun(run: string, lineage: Lineage): Promise<Ended | undefined> {
  const manifest = await readManifest(run);
  if (manifest !== undefined) {
    const left = isOnLine(manifest, lineage) ? undefined : leftAt(manifest.lineage, lineage);
    return { step: manifest.step, whole: true, manifest, leftAt: left };
  }
  if (!holdsAdapter(run)) return undefined;
  const unrecorded = lineage[0]!.line === UNRECORDED_LINE;
  const step = unrecorded ? await stepStopped(run) : undefined; // qlora 0.1.0 wrote trainer_state.json last
  return { step, whole: unrecorded, manifest, leftAt: undefined };
}
