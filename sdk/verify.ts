/** What of a run is whole; what a process that was killed left half behind is removed or mended. */
import { existsSync } from "node:fs";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { ModelError, QloraError } from "../core/errors.ts";
import { damaged, parseJsonObject } from "../core/formats/json-object.ts";
import { ADAPTER_CONFIG_FILE, ADAPTER_WEIGHTS_FILE, readAdapterConfig } from "../core/formats/peft.ts";
import { defineRequest } from "../core/options/request.ts";
import { removeLeftovers, writeFileAtomic } from "../runtime/files/files.ts";
import { openFolder, openSafetensors } from "../runtime/files/folder.ts";
import { isFolder } from "../runtime/files/stat.ts";
import { type Checkpoint, readCheckpoints, removeCheckpoint } from "../runtime/folder/checkpoints.ts";
import { EVALUATION_FILE, parseEvaluation } from "../runtime/folder/evaluation-record.ts";
import { lockRunFolder, RUN_FILES } from "../runtime/folder/folder.ts";
import { type Lineage, UNRECORDED, UNRECORDED_LINE } from "../runtime/folder/lineage.ts";
import { MANIFEST_FILE, manifestProblems, readManifest } from "../runtime/folder/manifest.ts";
import { readOwnRecord } from "../runtime/folder/record.ts";
import { parseTrainerState } from "../runtime/folder/trainer-state.ts";
import { readOptimizerState, readTrainingState } from "../runtime/folder/training-state.ts";
import { parseMetrics } from "../runtime/report/run.ts";

/**
 * `left`: whole, and left aside when the run went back. `unchecked`: of qlora 0.1.0, readable, without a manifest. `half`: half
 * saved or half deleted. `removed`, `mended`: was half, and is not any more.
 */
export type PartState = "whole" | "left" | "unchecked" | "damaged" | "half" | "removed" | "mended";

/** A file or folder of a run. */
export interface VerifiedPart {
  readonly path: string;
  readonly state: PartState;
  /** Optimizer steps done, of a checkpoint or an adapter. */
  readonly step?: number | undefined;
  /** What is wrong, or was. */
  readonly problems: readonly string[];
}

/** What `verifyRun` found. */
export interface RunVerification {
  readonly outputDir: string;
  /** False where a part is damaged or half. */
  readonly whole: boolean;
  readonly parts: readonly VerifiedPart[];
}

/** How a run is verified. */
export interface VerifyOptions {
  /** Remove and mend what is half; default true. */
  readonly repair?: boolean | undefined;
}

const checkOptions = defineRequest<VerifyOptions>("verifyRun", { repair: "boolean?" });

/**
 * Verifies a run, a cross-validation, a checkpoint or a trained adapter: every file that a manifest names against its sha256, and
 * that the others can be read. Removes what a killed process left half saved or half deleted where something newer is whole.
 * @throws QloraError where there is none, or a run writes the folder now
 * @example const { whole, parts } = await verifyRun(run);
 */
export async function verifyRun(outputDir: string, options: VerifyOptions = {}): Promise<RunVerification> {
  const { repair = true } = checkOptions(options);
  const parts = await partsOf(outputDir, repair);
  if (parts.length === 0) {
    throw new QloraError(
      "RUN_NOT_FOUND",
      `${outputDir}: holds no run, no checkpoint and no adapter with a ${MANIFEST_FILE}`,
      {
        hint: "Name the folder that training.outputDir named, or one of its checkpoints.",
      },
    );
  }
  return { outputDir, whole: parts.every(({ state }) => state !== "damaged" && state !== "half"), parts };
}

async function partsOf(folder: string, repair: boolean): Promise<VerifiedPart[]> {
  if (!isFolder(folder)) return [];
  const names = await readdir(folder);
  const folds = names.filter((name) => /^fold-\d+$/.test(name)).sort(inNaturalOrder);
  if (names.includes("cv.json")) {
    const parts = [await readable(join(folder, "cv.json"), readJson)];
    for (const fold of folds) parts.push(...(await runParts(join(folder, fold), repair)));
    return parts;
  }
  const isRun =
    [RUN_FILES.record, RUN_FILES.metrics].some((name) => names.includes(name)) ||
    names.some((name) => /^checkpoint-\d+/.test(name));
  if (isRun) return runParts(folder, repair);
  return names.includes(MANIFEST_FILE) ? [await manifestPart(folder)] : [];
}

const inNaturalOrder = new Intl.Collator("en", { numeric: true }).compare;

async function runParts(outputDir: string, repair: boolean): Promise<VerifiedPart[]> {
  if (!repair) return lookAt(outputDir, false);
  await using _ = await lockRunFolder(outputDir);
  return lookAt(outputDir, true);
}

async function lookAt(outputDir: string, repair: boolean): Promise<VerifiedPart[]> {
  const parts: VerifiedPart[] = [...(await leftovers(outputDir, repair))];
  const record = join(outputDir, RUN_FILES.record);
  let lineage: Lineage | undefined;
  if (existsSync(record)) {
    parts.push(
      await readable(record, async () => void (lineage = (await readOwnRecord(outputDir))?.lineage ?? UNRECORDED)),
    );
  }
  parts.push(...(await metricsPart(join(outputDir, RUN_FILES.metrics), repair)));
  const files: [string, (path: string) => Promise<unknown>][] = [
    [RUN_FILES.state, async (path) => parseTrainerState(await readFile(path, "utf8"), path)],
    [EVALUATION_FILE, async (path) => parseEvaluation(await readJson(path), path)],
  ];
  for (const [name, read] of files)
    if (existsSync(join(outputDir, name))) parts.push(await readable(join(outputDir, name), read));
  parts.push(...(await ownAdapter(outputDir, lineage)));
  return [...parts, ...(await checkpointParts(outputDir, lineage, repair))];
}

/** Temporary files and folders of processes that are dead. */
async function leftovers(outputDir: string, repair: boolean): Promise<VerifiedPart[]> {
  const parts: VerifiedPart[] = [];
  for (const name of await readdir(outputDir)) {
    const target = /^(.+)\.(?:tmp|old)-\d+(?:-\d+)?$/.exec(name)?.[1];
    if (target === undefined) continue;
    const path = join(outputDir, name);
    if (repair) await removeLeftovers(join(outputDir, target));
    const gone = !existsSync(path);
    parts.push({
      path,
      state: gone ? "removed" : "half",
      problems: ["was left by a process that ended while it wrote or deleted"],
    });
  }
  return parts;
}

const readJson = async (path: string): Promise<Readonly<Record<string, unknown>>> =>
  parseJsonObject(await readFile(path), damaged(path, "Restore it from a copy."));

/** A file by whether it can be read. */
async function readable(path: string, read: (path: string) => Promise<unknown>): Promise<VerifiedPart> {
  try {
    await read(path);
    return { path, state: "whole", problems: [] };
  } catch (error) {
    if (!(error instanceof QloraError)) throw error;
    return { path, state: "damaged", problems: [error.message] };
  }
}

async function metricsPart(path: string, repair: boolean): Promise<VerifiedPart[]> {
  if (!existsSync(path)) return [];
  const text = await readFile(path, "utf8");
  const part = await readable(path, async () => parseMetrics(text, path));
  const end = text.lastIndexOf("\n") + 1;
  if (part.state !== "whole" || end === text.length) return [part];
  if (repair) await writeFileAtomic(path, text.slice(0, end));
  return [{ path, state: repair ? "mended" : "half", problems: ["its last line was cut off"] }];
}

/** A folder against its manifest. */
async function manifestPart(directory: string): Promise<VerifiedPart> {
  try {
    const manifest = (await readManifest(directory))!;
    const problems = await manifestProblems(directory, manifest);
    const half = problems.some(({ kind }) => kind === "missing");
    const state = problems.length === 0 ? "whole" : half ? "half" : "damaged";
    return { path: directory, state, step: manifest.step, problems: problems.map(({ message }) => message) };
  } catch (error) {
    if (!(error instanceof ModelError)) throw error;
    return { path: directory, state: "damaged", problems: [error.message] };
  }
}

/** The adapter beside run.json. */
async function ownAdapter(outputDir: string, lineage: Lineage | undefined): Promise<VerifiedPart[]> {
  if (existsSync(join(outputDir, MANIFEST_FILE)))
    return [{ ...(await manifestPart(outputDir)), path: join(outputDir, ADAPTER_WEIGHTS_FILE) }];
  const path = join(outputDir, ADAPTER_WEIGHTS_FILE);
  if (!existsSync(path)) return [];
  if (lineage?.[0]!.line !== UNRECORDED_LINE)
    return [{ path, state: "half", problems: [`has no ${MANIFEST_FILE}, which is written last`] }];
  const part = await readable(path, () => readAdapter(outputDir));
  return [part.state === "whole" ? { ...part, state: "unchecked" } : part];
}

async function readAdapter(directory: string): Promise<void> {
  await readAdapterConfig(openFolder(directory));
  await using file = await openSafetensors(join(directory, ADAPTER_WEIGHTS_FILE));
  for (const name of file.tensors.keys()) await file.read(name);
}

async function checkpointParts(
  outputDir: string,
  lineage: Lineage | undefined,
  repair: boolean,
): Promise<VerifiedPart[]> {
  const { living, left, broken } = await readCheckpoints(outputDir, lineage);
  const parts: VerifiedPart[] = [];
  for (const { path, step, error } of broken) {
    const half = !existsSync(join(path, MANIFEST_FILE));
    parts.push({ path, step, state: half ? "half" : "damaged", problems: [error.message] });
  }
  for (const checkpoint of living) parts.push(await checkpointPart(checkpoint));
  for (const checkpoint of left) {
    const part = await checkpointPart(checkpoint);
    parts.push(part.state === "whole" ? { ...part, state: "left" } : part);
  }
  const livingPaths = new Set(living.map(({ path }) => path));
  const newest = parts.findLast(
    ({ path, state }) => livingPaths.has(path) && (state === "whole" || state === "unchecked"),
  );
  const mended: VerifiedPart[] = [];
  for (const part of parts.toSorted((a, b) => a.step! - b.step!)) {
    const surplus = part.state === "half" && newest !== undefined && newest.step! > part.step!;
    if (surplus && repair) await removeCheckpoint(part.path);
    mended.push(surplus && repair ? { ...part, state: "removed" } : part);
  }
  return mended;
}

async function checkpointPart(checkpoint: Checkpoint): Promise<VerifiedPart> {
  const { path, step, manifest } = checkpoint;
  if (manifest !== undefined) return manifestPart(path);
  const needed = [
    ADAPTER_CONFIG_FILE,
    ADAPTER_WEIGHTS_FILE,
    "optimizer.safetensors",
    "training_state.json",
    RUN_FILES.state,
  ];
  const missing = needed.filter((name) => !existsSync(join(path, name)));
  if (missing.length > 0)
    return { path, step, state: "half", problems: missing.map((name) => `${join(path, name)}: is missing`) };
  const part = await readable(path, async () => {
    await readAdapter(path);
    const state = await readTrainingState(path);
    await readOptimizerState(path, state);
    if (state.step !== step)
      throw new ModelError("CHECKPOINT_DAMAGED", `${path}: its state is that of step ${state.step}`);
  });
  return { ...part, step, state: part.state === "whole" ? "unchecked" : part.state };
}
