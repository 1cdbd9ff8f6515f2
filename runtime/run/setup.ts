/** What a run needs before its first step: base model, tokens, memory plan, model and optimizer on the GPU, log and record. */
import { join } from "node:path";
import { version } from "../../core/util/version.ts";
import { type Config, configToJson } from "../config/config.ts";
import type { TokenizedDataset } from "../data/dataset-tokenizer.ts";
import { rowsOfGroups } from "../data/pack.ts";
import { sharedTokenizer } from "../data/shared-tokens.ts";
import type { SpecialSettings } from "../data/special-tokens.ts";
import { boundRanks, openRankDevice } from "../device/rank-device.ts";
import { requireAlike } from "../distributed/agree.ts";
import { shareFolder } from "../distributed/share-folder.ts";
import { firstOfHost, fromFirst, type World } from "../distributed/world.ts";
import { removeLeftovers } from "../files/files.ts";
import { createRunFolder, lockRunFolder, RUN_FILES, writeJson } from "../folder/folder.ts";
import { type Lineage, newLine } from "../folder/lineage.ts";
import { openRunLog } from "../folder/log.ts";
import type { TrainingState } from "../folder/parse-state.ts";
import { newRunRecord, type RunFacts } from "../folder/record.ts";
import { checkResumable, readOptimizerState, readTrainingState } from "../folder/training-state.ts";
import { planLine } from "../planning/format.ts";
import { KernelWarmup } from "../planning/kernel-warmup.ts";
import type { MemoryPlan } from "../planning/settings.ts";
import { planTrainingRun } from "../planning/training-plan.ts";
import { trainingBatches } from "../planning/upcoming-batches.ts";
import { openReporting } from "../reporting/index.ts";
import { adapterFolder } from "../hub/index.ts";
import { type BaseModel, openBaseModel } from "../session/base-model.ts";
import { openSession } from "../session/session.ts";
import { GradScaler } from "../training/grad-scaler.ts";
import { createOptimizer } from "../training/optimizer-groups.ts";
import { OptimizerStep } from "../training/optimizer-step.ts";
import { createReducer } from "../training/reduce.ts";
import { openRunTokenizer, reportTruncation } from "./data.ts";
import { findBestModel } from "./best-model.ts";
import { rewindEvaluation } from "./evaluation.ts";
import { type RunIdentity, RunProgress } from "./progress.ts";
import { resolveResume, type RunStart } from "./resume.ts";
import { trainingSpecials } from "./specials.ts";
import { requireAdapterTask, requireProblemType } from "./problem-type.ts";
import { readTask, type TrainingTask } from "./task.ts";
import type { TrainOptions } from "./train-types.ts";
import type { TrainingRun } from "./training-run.ts";

/** What every part of opening a run needs. */
interface Opening {
  readonly config: Config;
  readonly options: TrainOptions;
  readonly world: World;
  /** Rows, classes, loss and sampler. */
  readonly task: TrainingTask;
  /** What the run starts from; undefined paths where it starts fresh. */
  readonly start: RunStart;
  /** Closed in reverse order when the run ends, or where opening fails. */
  readonly opened: AsyncDisposableStack;
}

/** Opens everything, in the order in which it may fail: what is cheap to find out comes first. @throws as `trainSteps` */
export async function openTrainingRun(config: Config, options: TrainOptions, world: World): Promise<TrainingRun> {
  const { onEvent } = options;
  const { training } = config;
  const alike = "Start every rank with the same qlora and the same config.";
  await requireAlike(world, "the run", rankIdentity(config), alike);
  const start = await fromFirst(world, { what: "rank 0 to look at the run's folder" }, () => resolveResume(training));
  for (const message of start.notes) onEvent?.({ type: "info", message });
  const task = await readTask(config, onEvent, world.size);

  await using opened = new AsyncDisposableStack();
  if (world.rank === 0) {
    opened.use(await lockRunFolder(training.outputDir));
    if (start.resume === undefined) await createRunFolder(training.outputDir, training.overwriteOutputDir);
    else await removeLeftovers(start.resume);
  }
  const opening = { config, options, world, task, start, opened };
  const data = await prepareData(opening);
  const model = await planAndOpen(opening, data);
  const log = await openLog(opening, data, model);
  const held = opened.move();
  return {
    config,
    world,
    onEvent,
    work: task,
    trainData: data.trainData,
    evalData: data.evalData,
    identity: data.identity,
    notes: {
      specialTokens: data.specialTokens,
      labelNames: task.labelNames,
      numLabels: task.numLabels,
      task: task.kind.name,
    },
    lineage: data.lineage,
    ...model,
    ...log,
    [Symbol.asyncDispose]: () => held.disposeAsync(),
  };
}

/** The base model's folder, the rows as tokens, and the state that the run resumes from. */
interface PreparedData {
  readonly base: BaseModel;
  readonly specialTokens: SpecialSettings | undefined;
  readonly trainData: TokenizedDataset;
  readonly evalData: TokenizedDataset | undefined;
  readonly identity: RunIdentity;
  /** Folder of the adapter whose values replace the fresh ones, on this host. */
  readonly initAdapter: string | undefined;
  readonly state: TrainingState | undefined;
  readonly lineage: Lineage;
}

async function prepareData({ config, options, world, task, start, opened }: Opening): Promise<PreparedData> {
  const { onEvent, signal } = options;
  const { model, training, data, optimizer } = config;
  const { rows, numLabels, samplesPerStep, sampler } = task;
  const named = start.resume ?? training.initAdapter;
  const given =
    named === undefined
      ? undefined
      : await firstOfHost(world, "the adapter on each host", () => adapterFolder(named, onEvent));
  const initAdapter = given === undefined ? undefined : opened.use(await shareFolder(world, given)).path;
  const base = await firstOfHost(world, "the base model on each host", () =>
    openBaseModel(model, { onEvent, signal, before: start.record?.baseModel }),
  );
  const { source } = base;
  await requireProblemType(base, config.task.task);
  if (given !== undefined) await requireAdapterTask(given, config.task.task);
  const { vocabSize } = await source.outline(numLabels);
  const specialTokens = trainingSpecials(source.checkpoint, data);
  const own = opened.use(openRunTokenizer(source.checkpoint, vocabSize, data, specialTokens, onEvent, config.template));
  const tokenizer = sharedTokenizer(world, own);
  const trainData = await tokenizer.tokenize(rows.train, rowsOfGroups(sampler.order(0), task.kind.rowsPerSample));
  const evalData = rows.evaluation === undefined ? undefined : await tokenizer.tokenize(rows.evaluation);
  const identity = {
    data: trainData.fingerprint,
    seed: training.seed,
    samplesPerStep,
    optimizer: optimizer.name,
    evaluation: evalData?.fingerprint ?? null,
  };
  const state = start.resume === undefined ? undefined : await readTrainingState(initAdapter!);
  if (state !== undefined) checkResumable(state, identity, start.resume!);
  const lineage = newLine(start.lineage, state?.step ?? 0);
  return { base, specialTokens, trainData, evalData, identity, initAdapter, state, lineage };
}

/** The model and its optimizer on the GPU, as the memory plan places them. */
interface PlannedModel extends Pick<
  TrainingRun,
  "session" | "optimizerStep" | "reducer" | "scaler" | "checkpointing" | "limits" | "evalLimits" | "progress"
> {
  readonly plan: MemoryPlan;
  /** Devices of all ranks. */
  readonly ranks: RunFacts["ranks"];
}

async function planAndOpen(
  { config, options: { onEvent, computeGradients }, world, task, start, opened }: Opening,
  { base, trainData, evalData, initAdapter, state }: PreparedData,
): Promise<PlannedModel> {
  const { training, device } = config;
  const { source } = base;
  const { sampler, schedule, numLabels } = task;
  const rankDevice = await openRankDevice(device.device, world);
  const planned = await planTrainingRun(config, { source, work: task }, start.record?.memory);
  const ranks = await rankDevice.check(planned.gpu.info);
  const bound = boundRanks(ranks);
  if (bound !== undefined) onEvent?.({ type: "warning", message: bound });
  const { plan } = planned;
  const { checkpointing, tokenBudget = Infinity } = plan.settings;
  const limits = {
    maxTokens: tokenBudget,
    ...(training.tokenBudget === undefined ? { maxSamples: training.perDeviceTrainBatchSize } : {}),
  };
  const evalLimits = { maxTokens: tokenBudget, maxSamples: training.perDeviceEvalBatchSize };
  onEvent?.({ type: "info", message: `memory ${planLine(plan)}` });
  const { evalSteps } = task.intervals;
  const coming = {
    training,
    evalSteps,
    sampler,
    trainData,
    evalData,
    limits,
    evalLimits,
    from: state?.step ?? 0,
    world,
  };
  const shapes = trainingBatches({
    ...coming,
    ownGradients: computeGradients !== undefined,
    rowsPerSample: task.kind.rowsPerSample,
  });
  const kernels = new KernelWarmup(planned, shapes, onEvent);
  const session = await openSession({
    source,
    baseModel: base.name,
    adapter: config.adapter,
    device,
    gpu: planned.gpu,
    placement: plan.settings,
    kernels,
    numLabels,
    seed: training.seed,
    initAdapter,
    allowNonFinite: training.allowNonFinite,
    onEvent,
  });
  opened.use(session);
  opened.use(kernels);
  const { gpu, parameters } = session;
  const optimizer = createOptimizer(config, session, schedule);
  const scaler = gpu.tier === "f32" ? undefined : new GradScaler(state?.scaler ?? undefined);
  const optimizerStep = new OptimizerStep(session, optimizer);
  if (state !== undefined) optimizerStep.optimizer.load(await readOptimizerState(initAdapter!, state));
  const { earlyStoppingPatience, earlyStoppingThreshold } = training;
  const best = { criterion: task.criterion, earlyStoppingPatience, earlyStoppingThreshold };
  const progress = new RunProgress(sampler, best, state);
  await findBestModel(progress.best, training.outputDir, world, onEvent);
  const reducer = createReducer(gpu, parameters, world);
  opened.defer(() => reducer.free());
  return { session, optimizerStep, reducer, scaler, checkpointing, limits, evalLimits, progress, plan, ranks };
}

/** metrics.jsonl and run.json, which is written again once it is known what truncation took; rank 0 alone writes. */
async function openLog(
  { config, options: { onEvent }, world, task, opened }: Opening,
  { base, specialTokens, trainData, evalData, state, lineage }: PreparedData,
  { session, progress, plan, ranks }: PlannedModel,
): Promise<Pick<TrainingRun, "log" | "syncLog" | "cuts" | "conclude" | "leaving">> {
  const { training, data } = config;
  const { numLabels, labelNames, sampler } = task;
  const leads = world.rank === 0;
  if (state !== undefined && leads) await rewindEvaluation(training.outputDir, state.step);
  const runLog = leads ? await openRunLog(training.outputDir, state) : undefined;
  const record = newRunRecord({
    config,
    device: session.gpu.info,
    ranks,
    mpi: world.library,
    baseModel: { name: base.name, sha: base.sha, directory: base.source.checkpoint },
    plan,
    model: session.model.record,
    data: { fingerprint: trainData.fingerprint, trainRows: trainData.size, evalRows: evalData?.size ?? 0, numLabels },
    labelNames,
    specialTokens,
    trainableParameters: session.parameters.count,
    totalSteps: sampler.totalSteps,
    lineage,
  });
  const writeRecord = async (parts: object): Promise<void> => {
    if (leads) await writeJson(join(training.outputDir, RUN_FILES.record), { ...record, ...parts });
  };
  await writeRecord({});
  // A run that ends sooner leaves its record as it is: whoever takes the folder next writes its own.
  let [ended, recorded] = [false, Promise.resolve()];
  opened.defer(async () => {
    ended = true;
    await recorded.catch(() => {});
  });
  const cuts = reportTruncation({ train: trainData, evaluation: evalData }, data, onEvent).then((truncation) => {
    if (!ended) recorded = writeRecord({ truncation });
    return recorded;
  });
  cuts.catch(() => {}); // awaited at the run's end; a row that cannot be tokenized is told by the step that needs it
  const reporting = await openReporting({
    ...training,
    plugins: leads ? config.reportTo : [],
    config: configToJson(config),
    entries: progress.history,
    firstStep: (state?.step ?? 0) + 1,
    onEvent,
    onFailure: (name) =>
      `; the run goes on, its folder keeps what ${name} did not get: qlora sync ${training.outputDir}`,
  });
  const leaving: TrainingRun["leaving"] = { status: "failed" };
  opened.defer(async () => void (await reporting.conclude(leaving.status)));
  return {
    cuts,
    leaving,
    conclude: async (status) => void (await reporting.conclude(status)),
    async log(entry) {
      progress.history.push(entry);
      await runLog?.append(entry);
      reporting.wake();
    },
    syncLog: async () => runLog?.sync(),
  };
}

/** What must be the same on every rank: where it keeps tokens and which device it takes may differ. */
function rankIdentity(config: Config): object {
  const { device, data, ...rest } = configToJson(config) as Readonly<Record<string, object>>;
  const { device: _, memoryBudget: _m, ...tier } = device as Readonly<Record<string, unknown>>;
  const { cacheDir: _c, ...rows } = data as Readonly<Record<string, unknown>>;
  return { qlora: version, config: { ...rest, device: tier, data: rows } };
}
