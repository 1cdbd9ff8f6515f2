/** Sweeps: a run for each arm of a plan over a config's options, compared by one number. */
import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { ConfigError } from "../../core/errors.ts";
import { damaged, parseJsonObject } from "../../core/formats/json-object.ts";
import { type Config, configToJson, requireConfig } from "../../runtime/config/config.ts";
import { type BestCriterion, bestCriterion } from "../../runtime/config/interval-options.ts";
import { requireAlike } from "../../runtime/distributed/agree.ts";
import { takeDevice } from "../../runtime/distributed/choose-device.ts";
import { openWorld } from "../../runtime/distributed/index.ts";
import { alone, fromFirst, type World } from "../../runtime/distributed/world.ts";
import { writeFileAtomic } from "../../runtime/files/files.ts";
import { readCheckpoints } from "../../runtime/folder/checkpoints.ts";
import { hasEnded } from "../../runtime/folder/ended.ts";
import { RUN_FILES, writeJson } from "../../runtime/folder/folder.ts";
import { UNRECORDED } from "../../runtime/folder/lineage.ts";
import { readOwnRecord } from "../../runtime/folder/record.ts";
import type { LogEntry } from "../../runtime/folder/trainer-state.ts";
import { parseMetrics } from "../../runtime/report/run.ts";
import { checkTrainOptions, type TrainOptions } from "../../runtime/run/train-types.ts";
import { trainSteps } from "../../runtime/run/train.ts";
import { armConfig, type ArmValues, armValues, checkPlan, rungsOf, type SweepArm, type SweepPlan } from "./arms.ts";
import { sweepPage } from "./page.ts";

export type { SweepArm, SweepPlan, SweepRange } from "./arms.ts";

/** Files beside the arms' folders. */
export const SWEEP_FILES = { record: "sweep.json", page: "sweep.html" } as const;

/** What a sweep gives. */
export interface SweepResult {
  readonly outputDir: string;
  /** As an evaluation names it. */
  readonly metric: string;
  /** The best first. */
  readonly arms: readonly SweepArm[];
  /** Path of sweep.html. */
  readonly page: string;
  readonly interrupted: boolean;
}

/** An arm under way. */
interface Arm {
  readonly arm: number;
  readonly values: ArmValues;
  readonly config: Config;
}

/**
 * Trains every arm of a plan in `outputDir/arm-N`, and writes sweep.json and sweep.html. Arms are compared by
 * `training.metricForBestModel` (default eval_loss), at their last evaluation, or the best where the run ends with that. Called again,
 * it keeps finished arms and resumes one that stopped. Several ranks train an arm each at a time.
 * @throws ConfigError for a plan or an arm that does not fit, before any is trained, or where outputDir holds another sweep
 * @example
 * const plan = { parameters: { "training.learningRate": [1e-4, 1e-3] } };
 * const { arms } = await sweep(defineConfig({ ...config.input, training: { ...config.input.training, outputDir } }), plan);
 * console.log(arms[0]!.values, arms[0]!.value);
 */
export async function sweep(config: Config, plan: SweepPlan, options: TrainOptions = {}): Promise<SweepResult> {
  requireConfig(config);
  checkTrainOptions(options);
  const checked = checkPlan(plan);
  const world = await openWorld();
  const { outputDir } = config.training;
  const arms = makeArms(config, checked);
  const rungs = rungsFor(config, checked);
  const criterion = bestCriterion({
    ...config.training,
    metricForBestModel: config.training.metricForBestModel ?? "loss",
  })!;
  const identity = { plan: checked, config: identityOf(config) };
  await requireAlike(world, "the sweep", identity, "Start every rank with the same config and plan.");
  await fromFirst(world, { what: "rank 0 to look at the sweep" }, () => checkIdentity(config, identity));
  if (world.size > 1) await takeDevice(config.device.device, world);
  const told = { ...options, onEvent: world.rank === 0 ? options.onEvent : undefined };

  let running: readonly Arm[] = arms;
  let interrupted = false;
  for (const [rung, steps] of rungs.entries()) {
    interrupted = await trainArms(running, steps, world, told);
    if (interrupted || rung === rungs.length - 1) break;
    const ranked = await rank(running, criterion, steps);
    running = ranked.slice(0, Math.max(1, Math.ceil(ranked.length / (checked.eta ?? 3)))).map(({ arm }) => arms[arm]!);
    const kept = running.map(({ arm }) => arm).join(", ");
    told.onEvent?.({ type: "info", message: `after ${steps} steps of ${arms.length} arms, these go on: ${kept}` });
  }
  const alive = new Set(running.map(({ arm }) => arm));
  const rows = (await rank(arms, criterion)).map((arm) =>
    arm.state === "waiting" && !alive.has(arm.arm) ? { ...arm, state: "stopped" as const } : arm,
  );
  const result = {
    outputDir,
    metric: criterion.metric,
    arms: rows.toSorted((a, b) => Number(a.state !== "done") - Number(b.state !== "done")),
    page: join(outputDir, SWEEP_FILES.page),
    interrupted,
  };
  if (world.rank === 0) {
    await writeJson(join(outputDir, SWEEP_FILES.record), { ...identity, metric: result.metric, arms: result.arms });
    const parameters = Object.keys(checked.parameters);
    await writeFileAtomic(result.page, sweepPage({ title: `Sweep ${outputDir}`, parameters, ...result }));
  }
  await world.barrier({ what: "rank 0 to write the sweep" });
  return result;
}

/** @throws ConfigError with the problems of every arm */
function makeArms(config: Config, plan: SweepPlan): Arm[] {
  const problems: string[] = [];
  if (config.training.resumeFromCheckpoint !== false)
    problems.push("training.resumeFromCheckpoint: a sweep resumes by itself; leave it out");
  const arms = armValues(plan).flatMap((values, arm): Arm[] => {
    const training = {
      outputDir: join(config.training.outputDir, `arm-${String(arm).padStart(3, "0")}`),
      ...evaluations(config, plan),
    };
    try {
      return [{ arm, values, config: armConfig(config, values, training) }];
    } catch (error) {
      if (!(error instanceof ConfigError)) throw error;
      problems.push(...error.problems.map((problem) => `arm ${arm} ${JSON.stringify(values)}: ${problem}`));
      return [];
    }
  });
  if (problems.length > 0) throw new ConfigError("SWEEP_INVALID", problems);
  return arms;
}

/** An arm must be evaluated where it is compared. */
function evaluations({ training }: Config, { method, minSteps }: SweepPlan): Readonly<Record<string, unknown>> {
  if (method === "halving") return { evalStrategy: "steps", evalSteps: minSteps };
  return training.evalStrategy === "no" ? { evalStrategy: "epoch" } : {};
}

/** Steps up to which arms are trained, one after the other; Infinity: to their end. */
function rungsFor({ training }: Config, { method, minSteps, eta = 3, parameters }: SweepPlan): readonly number[] {
  if (method !== "halving") return [Infinity];
  const { maxSteps } = training;
  if (maxSteps <= minSteps! || "training.maxSteps" in parameters) {
    throw new ConfigError(
      "SWEEP_INVALID",
      `training.maxSteps: got ${maxSteps} with sweep.minSteps ${minSteps}, expected one number of steps for all arms, above it`,
    );
  }
  return rungsOf(minSteps!, eta, maxSteps).map((steps) => (steps === maxSteps ? Infinity : steps));
}

/** Trains each up to `steps`, this rank its share of them. @returns whether any was interrupted */
async function trainArms(arms: readonly Arm[], steps: number, world: World, options: TrainOptions): Promise<boolean> {
  let interrupted = false;
  for (let i = world.rank; i < arms.length && !interrupted; i += world.size) {
    const { arm, values, config } = arms[i]!;
    const { outputDir } = config.training;
    if ((await stepsOf(outputDir)) >= steps || (await hasEnded(outputDir))) continue;
    options.onEvent?.({ type: "info", message: `arm ${arm} ${JSON.stringify(values)}, in ${outputDir}` });
    interrupted = await trainArm(config, steps, options);
  }
  const waiting = { what: "the arms of all ranks", deadlineMs: Infinity };
  return (await world.exchange([interrupted ? 1 : 0], waiting)).some(([value]) => value === 1);
}

/** The step of an arm's newest checkpoint; -1 where it has none. */
async function stepsOf(outputDir: string): Promise<number> {
  const record = await readOwnRecord(outputDir);
  if (record === undefined) return -1;
  const { living } = await readCheckpoints(outputDir, record.lineage ?? UNRECORDED);
  return living.at(-1)?.step ?? -1;
}

/** Trains an arm to `steps`, from its newest checkpoint where it has one. @returns whether the user interrupted it */
async function trainArm(config: Config, steps: number, { signal, ...options }: TrainOptions): Promise<boolean> {
  const isAborted = (): boolean => signal?.aborted === true;
  if (isAborted()) return true;
  const resumable = (await stepsOf(config.training.outputDir)) >= 0;
  const training = { ...config.training, resumeFromCheckpoint: resumable, overwriteOutputDir: !resumable };
  const rung = new AbortController();
  const either = signal === undefined ? rung.signal : AbortSignal.any([signal, rung.signal]);
  const run = trainSteps({ ...config, training }, { ...options, signal: either }, alone);
  for (;;) {
    const { done, value } = await run.next();
    if (done === true) return isAborted() && value.interrupted;
    if (value.step >= steps) rung.abort();
  }
}

/** Arms by what their folders say, the best first. @param at step that they are compared at; default: their last evaluation */
async function rank(arms: readonly Arm[], criterion: BestCriterion, at?: number): Promise<SweepArm[]> {
  const rows = await Promise.all(arms.map((arm) => readArm(arm, criterion, at)));
  const key = ({ value }: SweepArm): number =>
    value === undefined || Number.isNaN(value) ? Infinity : criterion.greaterIsBetter ? -value : value;
  return rows.toSorted((a, b) => (key(a) === key(b) ? a.arm - b.arm : key(a) < key(b) ? -1 : 1));
}

async function readArm(
  { arm, values, config }: Arm,
  { metric, greaterIsBetter }: BestCriterion,
  at?: number,
): Promise<SweepArm> {
  const { outputDir, loadBestModelAtEnd } = config.training;
  const path = join(outputDir, RUN_FILES.metrics);
  const history: LogEntry[] = existsSync(path) ? parseMetrics(await readFile(path, "utf8"), path) : [];
  const evaluated = history.filter((entry) => metric in entry && (at === undefined || entry.step <= at));
  const all = evaluated.map((entry) => entry[metric]!).filter((value) => !Number.isNaN(value));
  const best = greaterIsBetter ? Math.max(...all) : Math.min(...all);
  const value = loadBestModelAtEnd && all.length > 0 ? best : evaluated.at(-1)?.[metric];
  const state = (await hasEnded(outputDir)) ? "done" : "waiting";
  return { arm, values, outputDir, steps: history.at(-1)?.step ?? 0, value, state };
}

/** What must be the same for arms to belong together. */
function identityOf(config: Config): unknown {
  const { training, device: _, ...rest } = configToJson(config) as Record<string, Record<string, unknown>>;
  const { overwriteOutputDir: _o, outputDir: _d, reportTo: _r, loggingDir: _l, ...compared } = training!;
  return { ...rest, training: compared };
}

/** @throws ConfigError where the folder holds another sweep */
async function checkIdentity({ training: { outputDir, overwriteOutputDir } }: Config, now: object): Promise<void> {
  const path = join(outputDir, SWEEP_FILES.record);
  const hint = "Choose another --output-dir.";
  if (existsSync(path)) {
    const { plan, config } = parseJsonObject(await readFile(path, "utf8"), damaged(path, hint));
    if (JSON.stringify({ plan, config }) === JSON.stringify(now)) return;
    throw new ConfigError("SWEEP_DIFFERS", `${path}: is of another plan or config, and its arms would not compare`, {
      hint,
    });
  }
  if (overwriteOutputDir || !existsSync(join(outputDir, RUN_FILES.record))) return writeJson(path, now);
  throw new ConfigError("OUTPUT_DIR_TAKEN", `outputDir: ${outputDir} holds a run`, { hint });
}
