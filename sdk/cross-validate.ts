/** Cross-validation: a run for each fold, and the predictions of every row by the model that did not see it. */
import { existsSync } from "node:fs";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { ConfigError, QloraError } from "../core/errors.ts";
import { damaged, parseJsonObject } from "../core/formats/json-object.ts";
import { bestCriterion } from "../runtime/config/interval-options.ts";
import { type Config, configToJson, requireConfig } from "../runtime/config/config.ts";
import { type Dataset, loadDataset } from "../runtime/data/dataset.ts";
import { fingerprintDataset } from "../runtime/data/fingerprint.ts";
import type { DataRow } from "../runtime/data/formats/index.ts";
import { requireAlike } from "../runtime/distributed/agree.ts";
import { takeDevice } from "../runtime/distributed/choose-device.ts";
import { openWorld } from "../runtime/distributed/index.ts";
import { alone, anyRank, fromFirst, type World } from "../runtime/distributed/world.ts";
import { remove } from "../runtime/files/disk.ts";
import { writeFileAtomic } from "../runtime/files/files.ts";
import { readCheckpoints } from "../runtime/folder/checkpoints.ts";
import { endOf, hasEnded } from "../runtime/folder/ended.ts";
import { parseEvaluation } from "../runtime/folder/evaluation-record.ts";
import { RUN_FILES, writeJson } from "../runtime/folder/folder.ts";
import { UNRECORDED } from "../runtime/folder/lineage.ts";
import { bestCheckpoint } from "../runtime/folder/best-checkpoint.ts";
import { isOfOutputs, parseOutputs } from "../runtime/folder/outputs-record.ts";
import { readOwnRecord } from "../runtime/folder/record.ts";
import { columnOptions, labelValues, loadRunData } from "../runtime/run/data.ts";
import { checkAdapterFolder } from "../runtime/run/resume.ts";
import { checkTrainOptions, type TrainOptions } from "../runtime/run/train-types.ts";
import { trainSteps } from "../runtime/run/train.ts";
import { logitsOfPredictions, scoreLogits } from "../runtime/training/evaluate.ts";
import { taskKinds } from "../runtime/training/tasks/index.ts";
import { formatProbabilities, outputColumns, requireUniqueIds } from "./probabilities.ts";

/** Files beside the folds' folders. */
export const CV_FILES = { record: "cv.json", outOfFold: "out-of-fold.csv" } as const;

export interface FoldResult {
  readonly fold: number;
  readonly outputDir: string;
  /** Rows held out. */
  readonly rows: number;
  readonly steps: number;
  /** `eval_loss` and those of the config's metrics. */
  readonly metrics: Readonly<Record<string, number>>;
}

/** What a cross-validation gives. */
export interface CrossValidation {
  readonly outputDir: string;
  /** Folds that are done. */
  readonly folds: readonly FoldResult[];
  /** Metrics over all out-of-fold rows together; undefined until every fold is done. */
  readonly metrics: Readonly<Record<string, number>> | undefined;
  /** Path of out-of-fold.csv; undefined until every fold is done. */
  readonly outOfFold: string | undefined;
  readonly interrupted: boolean;
}

/** Predictions of held-out rows. */
interface HeldOut {
  readonly result: FoldResult;
  readonly rows: readonly { readonly id: string; readonly row: DataRow; readonly values: readonly number[] }[];
}

/**
 * Trains every fold in `outputDir/fold-N`, and writes out-of-fold.csv (in the order of the data) and cv.json: each row is predicted by
 * the model that did not see it. Called again, it keeps finished folds and resumes one that stopped at its newest checkpoint.
 * @throws ConfigError where outputDir holds another cross-validation; QloraError of every kind
 * @example
 * const { data, training } = config.input;
 * const whole = defineConfig({ ...config.input, data: { ...data, nSplits: undefined }, training: { ...training, outputDir } });
 * const { folds, outOfFold } = await crossValidate(whole, 2);
 * console.log(outOfFold, folds.map(({ metrics }) => metrics["eval_log_loss"]));
 */
export async function crossValidate(
  config: Config,
  folds: number,
  options: TrainOptions = {},
): Promise<CrossValidation> {
  requireConfig(config);
  checkTrainOptions(options);
  const { outputDir, overwriteOutputDir } = config.training;
  const world = await openWorld();
  const leads = world.rank === 0;
  const told = { ...options, onEvent: leads ? options.onEvent : undefined };
  checkConfig(config, folds);
  const reading = { ...columnOptions(config.data), values: labelValues(config.data, config.task) };
  const all = requireUniqueIds(await loadDataset(config.data.trainFiles, reading));
  const kind = taskKinds[config.task.task];
  const numLabels = kind.countOutputs([all]);
  const identity = identityOf(config, folds, all);
  await requireAlike(world, "the cross-validation", identity, "Start every rank with the same data and config.");
  const writeRecord = async (parts: object): Promise<void> => {
    if (leads) await writeJson(join(outputDir, CV_FILES.record), { ...identity, ...parts });
  };
  await fromFirst(world, { what: "rank 0 to look at the folds" }, async () => {
    if (overwriteOutputDir) await removeFolds(outputDir);
    else await checkIdentity(outputDir, identity);
    await writeRecord({ results: [] });
  });
  // A fold each is faster than one together: nothing is exchanged. The folds must lie on a disk that all hosts see.
  const apart = world.size > 1 && folds >= world.size;
  const cutShort = apart && (await trainApart(world, config, folds, told));

  const done: HeldOut[] = [];
  const score = (rows: HeldOut["rows"]): Record<string, number> => {
    const given = rows.map(({ values: predicted }) => predicted);
    const own = rows.map(({ row }) => row);
    return scoreLogits(kind.score(logitsOfPredictions(kind.name, given), own, numLabels), config.metrics, kind, own);
  };
  for (let fold = 0; fold < folds && !cutShort; fold++) {
    const folder = join(outputDir, `fold-${fold}`);
    const foldConfig = foldOf(config, folds, fold, folder);
    if (!apart && (await makeFold({ fold, folds, config: foldConfig, options: told, world }))) break;
    const { evaluation } = await loadRunData(foldConfig.data, foldConfig.task);
    const record = await readEvaluation(folder);
    await requireEvaluated(folder, record.step);
    const rows = evaluation!.rows.map((row, i) => ({ id: row.id, row, values: record.predictions[i]! }));
    const result = { fold, outputDir: folder, rows: rows.length, steps: record.step, metrics: score(rows) };
    done.push({ result, rows });
    await writeRecord({ results: done.map((held) => held.result) });
  }
  const results = done.map(({ result }) => result);
  if (done.length < folds)
    return { outputDir, folds: results, metrics: undefined, outOfFold: undefined, interrupted: true };

  const byId = new Map(done.flatMap(({ rows }) => rows.map((row) => [row.id, row] as const)));
  const rows = all.rows.map(({ id }) => byId.get(id)!);
  const columns = outputColumns(config.task.task, all, numLabels, all.labelNames);
  const outOfFold = join(outputDir, CV_FILES.outOfFold);
  if (leads) await writeFileAtomic(outOfFold, formatProbabilities({ columns, rows }));
  const metrics = score(rows);
  await writeRecord({ results, metrics });
  return { outputDir, folds: results, metrics, outOfFold, interrupted: false };
}

function checkConfig({ data, task, training }: Config, folds: number): void {
  const problems: string[] = [];
  if (task.task === "reward")
    problems.push("task: got reward, but out-of-fold predictions are of rows, and a reward model learns from pairs");
  if (!Number.isInteger(folds) || folds < 2)
    problems.push(`folds: got ${folds}, expected a whole number of at least 2`);
  if (data.trainFiles.length === 0) problems.push("data.trainFiles: got nothing, expected at least one file");
  if (data.evalFiles.length > 0)
    problems.push("data.evalFiles: got files, but cross-validation evaluates on the fold held out");
  if (training.resumeFromCheckpoint !== false)
    problems.push("training.resumeFromCheckpoint: cross-validation resumes by itself; leave it out");
  if (problems.length > 0) throw new ConfigError("CV_CONFIG", problems);
  if (training.initAdapter !== undefined) checkAdapterFolder("training.initAdapter", training.initAdapter);
}

/** The config of one fold; it evaluates at each epoch's end, and so when it is done. */
function foldOf(config: Config, nSplits: number, foldIdx: number, outputDir: string): Config {
  const loggingDir = config.training.loggingDir && join(config.training.loggingDir, `fold-${foldIdx}`);
  const runName = config.training.runName && `${config.training.runName}-fold-${foldIdx}`;
  // What looks for the best of a fold goes by the evaluations that the config names; the last step is one of them.
  const evalStrategy = bestCriterion(config.training) === undefined ? "epoch" : config.training.evalStrategy;
  return {
    ...config,
    data: { ...config.data, nSplits, foldIdx },
    training: { ...config.training, outputDir, loggingDir, runName, evalStrategy },
  };
}

/** A fold and what it is made with. */
interface FoldWork {
  readonly fold: number;
  readonly folds: number;
  readonly config: Config;
  readonly options: TrainOptions;
  readonly world: World;
}

/** Every rank trains folds of its own. @returns whether any was interrupted, once all ranks are done */
async function trainApart(world: World, config: Config, folds: number, options: TrainOptions): Promise<boolean> {
  await takeDevice(config.device.device, world); // a fold by itself would take the first
  const message = `${world.size} ranks train a fold each at a time; told here are those of rank 0`;
  options.onEvent?.({ type: "info", message });
  let interrupted = false;
  for (let fold = world.rank; fold < folds && !interrupted; fold += world.size) {
    const own = foldOf(config, folds, fold, join(config.training.outputDir, `fold-${fold}`));
    interrupted = await makeFold({ fold, folds, config: own, options, world: alone });
  }
  const waiting = { what: "the folds of all ranks", deadlineMs: Infinity };
  return (await world.exchange([interrupted ? 1 : 0], waiting)).some(([value]) => value === 1);
}

/** @returns whether it was interrupted */
async function makeFold({ fold, folds, config, options, world }: FoldWork): Promise<boolean> {
  const { outputDir } = config.training;
  const { onEvent, signal } = options;
  const starting = { what: "rank 0 to look at the fold" };
  if (await anyRank(world, signal?.aborted === true, `fold ${fold}`)) return true;
  onEvent?.({ type: "info", message: `fold ${fold + 1} of ${folds}, in ${outputDir}` });
  if (!(await fromFirst(world, starting, () => hasEnded(outputDir)))) return trainFold(config, options, world);
  onEvent?.({ type: "info", message: "it is done already" });
  return false;
}

/** Trains a fold, from its newest checkpoint where it has one. @returns whether it was interrupted */
async function trainFold(config: Config, options: TrainOptions, world: World): Promise<boolean> {
  const { outputDir } = config.training;
  const resumable = await fromFirst(world, { what: "rank 0 to look at the fold" }, async () => {
    const record = await readOwnRecord(outputDir);
    const { living } = await readCheckpoints(outputDir, record?.lineage ?? (record && UNRECORDED));
    return record !== undefined && living.length > 0;
  });
  // Without a checkpoint, a run that was cut off has nothing worth keeping.
  const training = { ...config.training, resumeFromCheckpoint: resumable, overwriteOutputDir: !resumable };
  const steps = trainSteps({ ...config, training }, options, world);
  for (;;) {
    const { done, value } = await steps.next();
    if (done === true) return value.interrupted;
  }
}

async function readEvaluation(
  folder: string,
): Promise<{ readonly step: number; readonly predictions: readonly (readonly number[])[] }> {
  const path = join(folder, RUN_FILES.evaluation);
  const hint = "Remove the fold's folder and run again.";
  const text = await readFile(path, "utf8").catch((cause: unknown) => {
    throw new QloraError("CV_EVALUATION_MISSING", `${path}: cannot be read`, { cause, hint });
  });
  const value = parseJsonObject(text, damaged(path, hint));
  if (isOfOutputs(value)) return parseOutputs(value, path);
  const { step, probabilities } = parseEvaluation(value, path);
  return { step, predictions: probabilities };
}

/** Predictions of another step than that of the adapter are not those of the fold. */
async function requireEvaluated(folder: string, step: number): Promise<void> {
  const ended = await endOf(folder);
  const record = await readOwnRecord(folder);
  const best = record && (await bestCheckpoint(folder, record));
  if ((best?.step ?? ended) === step) return;
  const message = `${join(folder, RUN_FILES.evaluation)}: is of step ${step}, but the fold ended at step ${ended}`;
  throw new QloraError("CV_EVALUATION_MISSING", message, { hint: "Remove the fold's folder and run again." });
}

type Identity = Readonly<Record<"folds" | "data" | "config", unknown>>;

/** What must be the same for folds to belong together. */
function identityOf(config: Config, folds: number, all: Dataset): Identity {
  const {
    training,
    device: _,
    reportTo: _p,
    ...rest
  } = configToJson(config) as Record<string, Record<string, unknown>>;
  const { overwriteOutputDir: _o, outputDir: _d, runName: _r, loggingDir: _l, ...compared } = training!;
  const value = { folds, data: fingerprintDataset(all), config: { ...rest, training: compared } };
  return JSON.parse(JSON.stringify(value)) as Identity;
}

/** Folders of folds in `outputDir`. */
async function foldFolders(outputDir: string): Promise<string[]> {
  if (!existsSync(outputDir)) return [];
  const names = (await readdir(outputDir)).filter((name) => /^fold-\d+$/.test(name));
  return names.map((name) => join(outputDir, name));
}

/** Removes every fold, so that none of an earlier cross-validation is taken for one of this. */
async function removeFolds(outputDir: string): Promise<void> {
  for (const folder of await foldFolders(outputDir)) await remove(folder);
  for (const name of Object.values(CV_FILES)) await remove(join(outputDir, name));
}

async function checkIdentity(outputDir: string, now: Identity): Promise<void> {
  const path = join(outputDir, CV_FILES.record);
  const hint = "Choose another --output-dir, or replace it with --overwrite-output-dir.";
  if (!existsSync(path)) {
    const [fold] = await foldFolders(outputDir);
    if (fold === undefined) return;
    throw new ConfigError("OUTPUT_DIR_TAKEN", `outputDir: ${fold} is there, but no ${path} that says what it is`, {
      hint,
    });
  }
  const before = parseJsonObject(await readFile(path, "utf8"), damaged(path, hint));
  const problems = differences(before, now, "").filter((problem) => problem !== "");
  if (problems.length === 0) return;
  throw new ConfigError("CV_DIFFERS", problems, {
    hint: `${outputDir} holds another cross-validation: choose another --output-dir, or replace it with --overwrite-output-dir.`,
  });
}

/** Leaves of `now` that `before` has otherwise. */
function differences(before: unknown, now: unknown, path: string): string[] {
  if (typeof now === "object" && now !== null && !Array.isArray(now) && typeof before === "object" && before !== null) {
    const old = before as Record<string, unknown>;
    return Object.entries(now).flatMap(([key, value]) =>
      differences(old[key], value, path === "" ? key : `${path}.${key}`),
    );
  }
  const [was, is] = [JSON.stringify(before) ?? "nothing", JSON.stringify(now) ?? "nothing"];
  return was === is ? [] : [`${path}: was ${was}, got ${is}`];
}
