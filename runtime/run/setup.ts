/** What a run needs before its first step: base model, tokens, memory plan, model and optimizer on the GPU, log and record. */
import { join } from "node:path";
import { version } from "../../core/util/version.ts";
import { type Config, configToJson } from "../config/config.ts";
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
): Promise<TrainingRun> {
  const { training, data, device } = config;
  const { resume, record, lineage: before, notes } = await resolveResume(training);
  for (const message of notes) onEvent?.({ type: "info", message });
  const work = readTask(config, onEvent);
  const { rows, numLabels, labelNames, samplesPerStep, sampler } = work;

  await using opened = new AsyncDisposableStack();
  opened.use(await lockRunFolder(training.outputDir));
  if (resume === undefined) await createRunFolder(training.outputDir, training.overwriteOutputDir);
  else await removeLeftovers(resume);

  const base = await openBaseModel(config.model, { onEvent, signal, before: record?.baseModel });
  const { source } = base;
  const { vocabSize } = await source.outline(numLabels);
  const specialTokens = trainingSpecials(source.checkpoint, data);
  const tokenizer = opened.use(openRunTokenizer(source.checkpoint, vocabSize, data, specialTokens, onEvent));
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
  if (state !== undefined) checkResumable(state, identity, resume!);
  const lineage = newLine(before, state?.step ?? 0);

  const planned = await planTrainingRun(config, { source, work }, record?.memory);
  const { plan } = planned;
  const { checkpointing, tokenBudget = Infinity } = plan.settings;
  const limits = {
    maxTokens: tokenBudget,
    ...(training.tokenBudget === undefined ? { maxSamples: training.perDeviceTrainBatchSize } : {}),
  };
  const evalLimits = { maxTokens: tokenBudget, maxSamples: training.perDeviceEvalBatchSize };
  onEvent?.({ type: "info", message: `memory ${planLine(plan)}` });
  const upcoming = { training, sampler, trainData, evalData, limits, evalLimits, from: state?.step ?? 0 };
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
    initAdapter: resume ?? training.initAdapter,
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

  if (state !== undefined) await rewindEvaluation(training.outputDir, state.step);
  const runLog = opened.use(await openRunLog(training, state));
  const runRecord = {
    qlora: version,
    [hostName]: hostVersion,
    config: configToJson(config),
    device: gpu.info,
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
  const writeRecord = (parts: object): Promise<void> =>
    writeJson(join(training.outputDir, RUN_FILES.record), { ...runRecord, ...parts });
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
      await runLog.append(entry);
    },
    syncLog: () => runLog.sync(),
    lineage,
    cuts,
    [Symbol.asyncDispose]: () => held.disposeAsync(),
  };
}
