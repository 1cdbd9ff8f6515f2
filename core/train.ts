/** The training loop: batch, forward, backward, clip, step, log, evaluate, save; one function, read top to bottom. */
import { join } from "node:path";
import type { Config } from "./config.ts";
import { configToJson } from "./config.ts";
import { EVALUATION_FILE } from "./report/evaluation-record.ts";
import { writeReport } from "./report/index.ts";
import { createSampler } from "./data/sampler.ts";
import type { Engine } from "./engine.ts";
import { computeLogits, evaluationRecord, scoreLogits } from "./evaluate.ts";
import { GradScaler } from "./grad-scaler.ts";
import { stepGradients } from "./gradients.ts";
import { createOptimizer } from "./head-optimizer.ts";
import { countLabels } from "./labels.ts";
import { openBaseModel } from "./base-model.ts";
import { nonFiniteGradients } from "./non-finite.ts";
import { loadTrainingData, openRunTokeniser, reportCuts, samplesOf } from "./run-data.ts";
import { createRunFolder, RUN_FILES, saveCheckpoint, writeJson } from "./run-folder.ts";
import { openRunLog } from "./run-log.ts";
import { openRun } from "./planning/run.ts";
import { planLine, planRecord } from "./planning/words.ts";
import { learningRateAt } from "./schedule.ts";
import { findStart } from "./run-start.ts";
import { openSession } from "./session.ts";
import { createStepLoss } from "./step-loss.ts";
import type { TrainOptions, TrainResult, TrainStep } from "./train-types.ts";
import { formatTrainerState, type LogEntry, type TrainerState } from "./trainer-state.ts";
import { removeLeftovers, writeFileAtomic } from "./files.ts";
import {
  checkResumable,
  readOptimizerState,
  readTrainingState,
  type TrainingState,
  writeCheckpoint,
} from "./training-state.ts";
import { version } from "./version.ts";

/**
 * Trains as the config says, yielding after each optimizer step; the run's folder is complete when it returns.
 * @throws ConfigError, DataError, ModelError, DeviceError
 */
export async function* trainSteps(
  config: Config,
  engine: Engine,
  options: TrainOptions = {},
): AsyncGenerator<TrainStep, TrainResult> {
  const { training, data, device } = config;
  const { onEvent, signal, computeGradients } = options;
  const { resume, record } = await findStart(training);
  const rows = loadTrainingData(config);
  const numLabels = countLabels(rows.evaluation === undefined ? [rows.train] : [rows.train, rows.evaluation]);
  const stepLoss = createStepLoss(rows.train.rows, config, numLabels, onEvent);
  const samplesPerStep = training.perDeviceTrainBatchSize * training.gradientAccumulationSteps;
  const sampler = createSampler({
    size: rows.train.rows.length,
    samplesPerStep,
    seed: training.seed,
    shuffle: training.shuffle,
    numTrainEpochs: training.numTrainEpochs,
    maxSteps: training.maxSteps,
  });
  const { totalSteps, stepsPerEpoch } = sampler;
  onEvent?.({
    type: "info",
    message:
      `global batch ${samplesPerStep} = ${training.perDeviceTrainBatchSize} per device x ${training.gradientAccumulationSteps} accumulated; ` +
      `${totalSteps} steps over ${rows.train.rows.length} rows`,
  });

  if (resume === undefined) await createRunFolder(training.outputDir, training.overwriteOutputDir);
  else await removeLeftovers(resume);
  const {
    source,
    name: baseModel,
    sha,
  } = await openBaseModel(config.model, { onEvent, signal, before: record?.baseModel });
  const { vocabSize } = await source.outline(numLabels);
  await using tokeniser = openRunTokeniser(source.checkpoint, vocabSize, data);
  const trainData = await tokeniser.tokenise(rows.train, sampler.order(0));
  const evalData = rows.evaluation === undefined ? undefined : await tokeniser.tokenise(rows.evaluation);
  const identity = {
    data: trainData.fingerprint,
    seed: training.seed,
    samplesPerStep,
    optimizer: config.optimizer.name,
  };
  const before = resume === undefined ? undefined : await readTrainingState(resume);
  if (before !== undefined) checkResumable(before, identity, resume!);

  const { gpu: opened, plan, kernels } = await openRun(config, { source, numLabels }, engine, record?.memory);
  onEvent?.({ type: "info", message: `memory ${planLine(plan)}` });
  using session = await openSession({
    source,
    baseModel,
    adapter: config.adapter,
    device,
    gpu: opened,
    placement: plan.settings,
    kernels,
    numLabels,
    seed: training.seed,
    initAdapter: resume ?? training.initAdapter,
    onEvent,
  });
  const { gpu, parameters } = session;
  const optimizer = createOptimizer(config, session, totalSteps);
  if (resume !== undefined) optimizer.load(await readOptimizerState(resume));
  const scaler = gpu.tier === "f32" ? undefined : new GradScaler(before?.scaler ?? undefined);
  const control = gpu.alloc([4], "f32", "gradient control", "optimizer");
  const { checkpointing, tokenBudget = Infinity } = plan.settings;
  const evalLimits = { maxTokens: tokenBudget, maxSamples: training.perDeviceEvalBatchSize };
  const limits = {
    maxTokens: tokenBudget,
    ...(training.tokenBudget === undefined ? { maxSamples: training.perDeviceTrainBatchSize } : {}),
  };

  let { step, updates, skipped, tokens, totalLoss } = before ?? {
    step: 0,
    updates: 0,
    skipped: 0,
    tokens: 0,
    totalLoss: 0,
  };
  let sinceLog = before?.sinceLog ?? { loss: 0, steps: 0, skipped: 0 };
  const history: LogEntry[] = [...(before?.history ?? [])];
  let metrics: Readonly<Record<string, number>> = {};

  const trainerState = (): TrainerState => ({
    bestGlobalStep: null,
    bestMetric: null,
    bestModelCheckpoint: null,
    epoch: step / stepsPerEpoch,
    evalSteps: training.evalStrategy === "steps" ? training.evalSteps : null,
    globalStep: step,
    logHistory: history,
    loggingSteps: training.loggingSteps,
    maxSteps: totalSteps,
    numInputTokensSeen: tokens,
    numTrainEpochs: Math.ceil(totalSteps / stepsPerEpoch),
    saveSteps: training.saveSteps,
    shouldTrainingStop: step >= totalSteps,
    totalFlos: 0,
    trainBatchSize: training.perDeviceTrainBatchSize,
  });
  const log = async (entry: LogEntry): Promise<void> => {
    history.push(entry);
    await runLog.append(entry);
  };
  const evaluate = async (): Promise<void> => {
    if (evalData === undefined) return;
    const start = performance.now();
    const logits = await computeLogits(session, engine, evalData, evalLimits, "evaluating", onEvent);
    const labels = evalData.dataset.rows.map((row) => row.label!);
    metrics = scoreLogits(logits, labels, numLabels, config.metrics);
    const seconds = (performance.now() - start) / 1000;
    await log({
      epoch: step / stepsPerEpoch,
      step,
      ...metrics,
      eval_runtime: seconds,
      eval_samples_per_second: labels.length / seconds,
    });
    onEvent?.({ type: "eval", step, epoch: step / stepsPerEpoch, metrics, seconds });
    await writeJson(
      join(training.outputDir, EVALUATION_FILE),
      await evaluationRecord(evalData, logits, { step, numLabels, maxLength: data.maxLength }),
    );
  };
  const save = async (): Promise<void> => {
    const values = await parameters.readValues();
    const state: TrainingState = {
      version: 1,
      step,
      updates,
      skipped,
      tokens,
      scaler: scaler?.state ?? null,
      ...identity,
      sinceLog,
      totalLoss,
      history,
    };
    const path = await saveCheckpoint(training.outputDir, step, training.saveTotalLimit, (directory) =>
      writeCheckpoint(directory, session.adapter, values, optimizer, state, trainerState()),
    );
    onEvent?.({ type: "save", step, path });
  };

  await using runLog = await openRunLog(training, resume === undefined ? undefined : step);
  const runRecord = {
    qlora: version,
    bun: Bun.version,
    config: configToJson(config),
    device: gpu.info,
    baseModel: { name: baseModel, sha, directory: source.checkpoint },
    memory: planRecord(plan),
    model: session.model.record,
    data: { fingerprint: trainData.fingerprint, trainRows: trainData.size, evalRows: evalData?.size ?? 0, numLabels },
    trainableParameters: parameters.count,
    totalSteps,
    startedAt: new Date().toISOString(),
  };
  const writeRecord = (parts: object): Promise<void> =>
    writeJson(join(training.outputDir, RUN_FILES.record), { ...runRecord, ...parts });
  await writeRecord({});
  const cuts = reportCuts({ train: trainData, evaluation: evalData }, data, onEvent).then((truncation) =>
    writeRecord({ truncation }),
  );
  cuts.catch(() => {}); // awaited below; a row that cannot be tokenised is told by the step that needs it

  const started = performance.now();
  const firstStep = step;
  let samplesDone = 0;
  let tokensDone = 0;
  let saved = step;
  let window = { seconds: 0, tokens: 0 }; // since the last log, without evaluation and saving
  while (step < totalSteps && signal?.aborted !== true) {
    const from = performance.now();
    const samples = await samplesOf(trainData, sampler.batch(step));
    const lossScale = scaler?.scale ?? 1;
    const settings = { limits, checkpointing, lossScale, stepKey: step, ...stepLoss };
    const { losses, count } = await stepGradients(session, engine, { step, samples }, settings, computeGradients);
    engine.gradNorm(gpu, parameters.slabs, control, { lossScale, maxNorm: training.maxGradNorm });
    const learningRate = learningRateAt(training, totalSteps, updates);
    optimizer.step({ learningRate, update: updates + 1, control });

    const [, overflow, gradNorm] = (await gpu.readFloats(control)) as Float32Array & [number, number, number];
    let lossSum = 0;
    for (const part of losses) {
      lossSum = (await gpu.readFloats(part)).reduce((sum, value) => sum + value, lossSum);
      gpu.free(part);
    }
    const skip = overflow !== 0;
    scaler?.update(skip);
    if (skip) {
      skipped++;
      const names = await nonFiniteGradients(session, engine);
      const next = scaler === undefined ? "" : `; loss scale ${lossScale} -> ${scaler.scale}`;
      onEvent?.({
        type: "warning",
        message: `step ${step + 1} skipped: ${names.length} of ${parameters.parameters.length} gradients are not finite, the deepest of them ${names.at(-1)}${next}`,
      });
    } else updates++;
    step++;
    const loss = lossSum / count;
    const stepTokens = samples.reduce((sum, sample) => sum + sample.inputIds.length, 0);
    tokens += stepTokens;
    tokensDone += stepTokens;
    samplesDone += samples.length;
    totalLoss += Number.isFinite(loss) ? loss : 0;
    window = { seconds: window.seconds + (performance.now() - from) / 1000, tokens: window.tokens + stepTokens };
    sinceLog = { loss: sinceLog.loss + loss, steps: sinceLog.steps + 1, skipped: sinceLog.skipped + (skip ? 1 : 0) };

    const epoch = step / stepsPerEpoch;
    const seconds = (performance.now() - started) / 1000;
    const speed = {
      samplesPerSecond: samplesDone / seconds,
      tokensPerSecond: tokensDone / seconds,
      memoryBytes: gpu.memory.report().used,
    };
    onEvent?.({ type: "step", step, totalSteps, epoch, loss, learningRate, ...speed });
    if (step % training.loggingSteps === 0 || step === totalSteps) {
      const mean = sinceLog.loss / sinceLog.steps;
      await log({
        epoch,
        grad_norm: gradNorm,
        learning_rate: learningRate,
        loss: mean,
        num_input_tokens_seen: tokens,
        skipped_steps: sinceLog.skipped,
        step,
        tokens_per_second: window.tokens / window.seconds,
      });
      onEvent?.({
        type: "log",
        step,
        totalSteps,
        epoch,
        loss: mean,
        gradNorm,
        learningRate,
        skippedSteps: sinceLog.skipped,
        ...speed,
      });
      sinceLog = { loss: 0, steps: 0, skipped: 0 };
      window = { seconds: 0, tokens: 0 };
    }
    const endsEpoch = step % stepsPerEpoch === 0 || step === totalSteps;
    if (
      training.evalStrategy === "steps"
        ? step % training.evalSteps === 0
        : training.evalStrategy === "epoch" && endsEpoch
    )
      await evaluate();
    if (
      training.saveStrategy === "steps"
        ? step % training.saveSteps === 0
        : training.saveStrategy === "epoch" && endsEpoch
    ) {
      await save();
      saved = step;
    }
    yield {
      step,
      totalSteps,
      epoch,
      loss,
      gradNorm,
      learningRate,
      skipped: skip,
      lossScale,
      samples: samples.length,
      tokens: stepTokens,
      session,
    };
  }

  const interrupted = step < totalSteps;
  if (!interrupted) await cuts;
  if (interrupted ? saved !== step : training.saveStrategy !== "no" && saved !== step) await save();
  if (!interrupted) {
    const seconds = (performance.now() - started) / 1000;
    const ran = step - firstStep;
    await log({
      epoch: step / stepsPerEpoch,
      step,
      train_loss: totalLoss / step,
      train_runtime: seconds,
      train_samples_per_second: samplesDone / seconds,
      train_steps_per_second: ran / seconds,
      total_flos: 0,
    });
    await session.adapter.save(training.outputDir, await parameters.readValues());
  }
  await writeFileAtomic(join(training.outputDir, RUN_FILES.state), formatTrainerState(trainerState()));
  const report = await writeReport(training.outputDir);
  optimizer.destroy();
  gpu.free(control);
  return {
    outputDir: training.outputDir,
    steps: step,
    totalSteps,
    trainLoss: totalLoss / Math.max(1, step),
    metrics,
    report,
    history,
    interrupted,
  };
}
