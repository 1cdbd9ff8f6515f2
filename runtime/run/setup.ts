/** What a run needs before its first step: base model, tokens, memory plan, model and optimizer on the GPU, log and record. */
import { join } from "node:path";
import { version } from "../../core/util/version.ts";
import { type Config, configToJson } from "../config/config.ts";
import { sharedTokenizer } from "../data/shared-tokens.ts";
import { openRankDevice } from "../device/rank-device.ts";
import { requireAlike } from "../distributed/agree.ts";
import { shareFolder } from "../distributed/share-folder.ts";
import { firstOfHost, fromFirst, type World } from "../distributed/world.ts";
import { removeLeftovers } from "../files/files.ts";
import { id2label } from "../folder/adapter-notes.ts";
import { createRunFolder, lockRunFolder, RUN_FILES, writeJson } from "../folder/folder.ts";
import { newLine } from "../folder/lineage.ts";
import { openRunLog } from "../folder/log.ts";
import { checkResumable, readOptimizerState, readTrainingState } from "../folder/training-state.ts";
import { hostName, hostVersion } from "../host.ts";
import { planLine, planRecord } from "../planning/format.ts";
import { KernelWarmup } from "../planning/kernel-warmup.ts";
import { planTrainingRun } from "../planning/training-plan.ts";
import { trainingBatches } from "../planning/upcoming-batches.ts";
import { openBaseModel } from "../session/base-model.ts";
import { openSession } from "../session/session.ts";
import { GradScaler } from "../training/grad-scaler.ts";
import { createOptimizer } from "../training/head-optimizer.ts";
import { createReducer } from "../training/reduce.ts";
import { openRunTokenizer, reportTruncation } from "./data.ts";
import { rewindEvaluation } from "./evaluation.ts";
import { RunProgress } from "./progress.ts";
import { resolveResume } from "./resume.ts";
import { trainingSpecials } from "./specials.ts";
import { readTask } from "./task.ts";
import type { TrainOptions } from "./train-types.ts";
import type { TrainingRun } from "./training-run.ts";

/** Opens everything, in the order in which it may fail: what is cheap to find out comes first. @throws as `trainSteps` */
export async function openTrainingRun(
  config: Config,
  { onEvent, signal, computeGradients }: TrainOptions,
  world: World,
): Promise<TrainingRun> {
  const { training, data, device } = config;
  const leads = world.rank === 0;
  const alike = "Start every rank with the same qlora and the same config.";
  await requireAlike(world, "the run", rankIdentity(config), alike);
  const start = await fromFirst(world, { what: "rank 0 to look at the run's folder" }, () => resolveResume(training));
  const { record, lineage: before, notes } = start;
  for (const message of notes) onEvent?.({ type: "info", message });
  const work = readTask(config, onEvent, world.size);
  const { rows, numLabels, labelNames, samplesPerStep, sampler } = work;

  await using opened = new AsyncDisposableStack();
  if (leads) {
    opened.use(await lockRunFolder(training.outputDir));
    if (start.resume === undefined) await createRunFolder(training.outputDir, training.overwriteOutputDir);
    else await removeLeftovers(start.resume);
  }
  const given = start.resume ?? training.initAdapter;
  const initAdapter = given === undefined ? undefined : opened.use(await shareFolder(world, given)).path;
  const resume = start.resume === undefined ? undefined : initAdapter;

  const base = await firstOfHost(world, "the base model on each host", () =>
    openBaseModel(config.model, { onEvent, signal, before: record?.baseModel }),
  );
  const { source } = base;
  const { vocabSize } = await source.outline(numLabels);
  const specialTokens = trainingSpecials(source.checkpoint, data);
  const own = opened.use(openRunTokenizer(source.checkpoint, vocabSize, data, specialTokens, onEvent));
  const tokenizer = sharedTokenizer(world, own);
  const trainData = await tokenizer.tokenize(rows.train, sampler.order(0));
  const evalData = rows.evaluation === undefined ? undefined : await tokenizer.tokenize(rows.evaluation);
  const identity = {
    data: trainData.fingerprint,
    seed: training.seed,
    samplesPerStep,
    optimizer: config.optimizer.name,
    evaluation: evalData?.fingerprint ?? null,
  };
  const state = resume === undefined ? undefined : await readTrainingState(resume);
  if (state !== undefined) checkResumable(state, identity, start.resume!);
  const lineage = newLine(before, state?.step ?? 0);

  const rankDevice = await openRankDevice(device.device, world);
  const planned = await planTrainingRun(config, { source, work }, record?.memory);
  const ranks = await rankDevice.check(planned.gpu.info);
  const { plan } = planned;
  const { checkpointing, tokenBudget = Infinity } = plan.settings;
  const limits = {
    maxTokens: tokenBudget,
    ...(training.tokenBudget === undefined ? { maxSamples: training.perDeviceTrainBatchSize } : {}),
  };
  const evalLimits = { maxTokens: tokenBudget, maxSamples: training.perDeviceEvalBatchSize };
  onEvent?.({ type: "info", message: `memory ${planLine(plan)}` });
  const upcoming = { training, sampler, trainData, evalData, limits, evalLimits, from: state?.step ?? 0, world };
  const kernels = new KernelWarmup(
    planned,
    trainingBatches({ ...upcoming, ownGradients: computeGradients !== undefined }),
    onEvent,
  );
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
  const optimizer = createOptimizer(config, session, sampler.totalSteps);
  if (resume !== undefined) optimizer.load(await readOptimizerState(resume, state!));
  const scaler = gpu.tier === "f32" ? undefined : new GradScaler(state?.scaler ?? undefined);
  const gradState = gpu.alloc([4], "f32", "gradient gradState", "optimizer");
  const progress = new RunProgress(sampler, state);

  const reducer = createReducer(gpu, parameters, world);
  opened.defer(() => reducer.free());
  if (state !== undefined && leads) await rewindEvaluation(training.outputDir, state.step);
  const runLog = leads ? opened.use(await openRunLog(training, state)) : undefined;
  const runRecord = {
    qlora: version,
    [hostName]: hostVersion,
    config: configToJson(config),
    device: gpu.info,
    ...(world.size === 1 && ranks[0]?.uuid === undefined ? {} : { ranks, mpi: world.library }),
    baseModel: { name: base.name, sha: base.sha, directory: source.checkpoint },
    memory: planRecord(plan),
    model: session.model.record,
    data: {
      fingerprint: trainData.fingerprint,
      trainRows: trainData.size,
      evalRows: evalData?.size ?? 0,
      numLabels,
      id2label: labelNames && id2label(labelNames),
    },
    specialTokens,
    trainableParameters: parameters.count,
    totalSteps: sampler.totalSteps,
    lineage,
    startedAt: new Date().toISOString(),
  };
  const writeRecord = async (parts: object): Promise<void> => {
    if (leads) await writeJson(join(training.outputDir, RUN_FILES.record), { ...runRecord, ...parts });
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

  const held = opened.move();
  return {
    config,
    world,
    reducer,
    onEvent,
    work,
    trainData,
    evalData,
    identity,
    notes: { specialTokens, labelNames },
    session,
    optimizer,
    scaler,
    gradState,
    checkpointing,
    limits,
    evalLimits,
    progress,
    async log(entry) {
      progress.history.push(entry);
      await runLog?.append(entry);
    },
    syncLog: async () => runLog?.sync(),
    lineage,
    cuts,
    [Symbol.asyncDispose]: () => held.disposeAsync(),
  };
}

/** What must be the same on every rank: where it keeps tokens and which device it takes may differ. */
function rankIdentity(config: Config): object {
  const { device, data, ...rest } = configToJson(config) as Readonly<Record<string, object>>;
  const { device: _, memoryBudget: _m, ...tier } = device as Readonly<Record<string, unknown>>;
  const { cacheDir: _c, ...rows } = data as Readonly<Record<string, unknown>>;
  return { qlora: version, config: { ...rest, device: tier, data: rows } };
}
