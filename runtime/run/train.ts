/** The training loop: batch, forward, backward, clip, step, log, evaluate, save; one function, read top to bottom. */
import { ConfigError } from "../../core/errors.ts";
import type { TrainingOptions } from "../config/training-options.ts";
import type { Config } from "../config/config.ts";
import { groupLengths, rowsOfGroups } from "../data/pack.ts";
import { dealByTokens } from "../distributed/deal.ts";
import { openWorld } from "../distributed/index.ts";
import { RankPace } from "../distributed/pace.ts";
import { atPlace, type RankPlace } from "../distributed/trouble.ts";
import { FIRST_PATIENCE, highestOfRanks, type World } from "../distributed/world.ts";
import { checkpointPath } from "../folder/folder.ts";
import { stepGradients } from "../training/gradients.ts";
import { nonFiniteGradients } from "../training/non-finite.ts";
import { orderedGradients } from "../training/ordered.ts";
import type { StepTotals } from "../training/reduce.ts";
import { evaluationIsDue, isDue } from "../training/intervals.ts";
import { loadBestModel } from "./best-model.ts";
import { samplesOf } from "./data.ts";
import { evaluateHeldOut } from "./evaluation.ts";
import { diverged, finishRun, pruneRun, saveRun, writeSummary } from "./save.ts";
import { openTrainingRun } from "./setup.ts";
import type { TrainOptions, TrainResult, TrainStep } from "./train-types.ts";
import type { TrainingRun } from "./training-run.ts";

/** Steps in a row without a finite loss, or without finite gradients where no loss scale helps, after which none will come. */
const DIVERGED_STEPS = 5;

/** What ends a run before its last step: its script, which makes it a finished one, or a signal, after which it can go on. */
const HALT = { none: 0, stop: 1, interrupt: 2 } as const;

/**
 * Trains as the config says, yielding after each optimizer step; the run's folder is complete when it returns.
 * @param given the world to train in; default: that of this process
 * @throws ConfigError, DataError, ModelError, DeviceError
 */
export async function* trainSteps(
  config: Config,
  options: TrainOptions = {},
  given?: World,
): AsyncGenerator<TrainStep, TrainResult> {
  const world = given ?? (await openWorld());
  const place: RankPlace = { step: undefined, checkpoint: undefined };
  try {
    return yield* rankSteps(config, options, world, place);
  } catch (error) {
    throw atPlace(error, world, place);
  }
}

/** @param place kept up to date, for the message of a failure */
async function* rankSteps(
  config: Config,
  options: TrainOptions,
  world: World,
  place: RankPlace,
): AsyncGenerator<TrainStep, TrainResult> {
  const { training } = config;
  const { signal, computeGradients } = options;
  const onEvent = world.rank === 0 ? options.onEvent : undefined;
  if (training.deterministic && computeGradients !== undefined) {
    const message = "training.deterministic: got it with computeGradients, whose sums have no order of their own";
    throw new ConfigError("DETERMINISTIC_GRADIENTS", message, { hint: "Leave one of them out." });
  }
  await using run = await openTrainingRun(config, { ...options, onEvent }, world);
  const { work, session, optimizerStep, scaler, limits, checkpointing, progress, reducer } = run;
  const { totalSteps } = work.sampler;
  const { gpu, parameters } = session;

  const started = performance.now();
  const firstStep = progress.step;
  let metrics: Readonly<Record<string, number>> = {};
  let samplesDone = 0;
  let saved = firstStep === 0 ? undefined : firstStep; // a run that has not begun has no checkpoint to go on from
  let saveDue = false;
  // An update that ruins the parameters shows in the loss of the next step: until then older checkpoints stay.
  let proven: number | undefined;
  const ranks = new RankPace(world.size);
  let window = { seconds: 0, samples: 0, tokens: 0 }; // since the last log, without evaluation and saving
  const { neftuneNoiseAlpha: alpha, seed } = training;
  const neftune = alpha === undefined ? undefined : { alpha, seed };
  // The steps before the second end have kernels to compile on every rank.
  const patience = (): number => (progress.step <= firstStep + 1 ? FIRST_PATIENCE : 1);
  if (training.evalOnStart && firstStep === 0) metrics = (await evaluateHeldOut(run)) ?? metrics;
  let stopAsked = false;
  while (!progress.done) {
    const own = signal?.aborted === true ? HALT.interrupt : stopAsked ? HALT.stop : HALT.none;
    const halt = await highestOfRanks(world, own, `step ${progress.step + 1}`, patience());
    if (halt === HALT.stop) progress.stop();
    if (halt !== HALT.none) break;
    const from = performance.now();
    const before = progress.step;
    place.step = before + 1;
    place.checkpoint = saved === undefined ? undefined : checkpointPath(training.outputDir, saved);
    const { rowsPerSample } = work.kind;
    const samples = await samplesOf(run.trainData, rowsOfGroups(work.sampler.batch(before), rowsPerSample));
    const size = samples.length / rowsPerSample;
    const lossScale = scaler?.scale ?? 1;
    const lengths = samples.map(({ inputIds }) => inputIds.length);
    const dealt = dealByTokens(groupLengths(lengths, rowsPerSample), world.size)[world.rank]!;
    const share = rowsOfGroups(dealt, rowsPerSample).map((i) => samples[i]!);
    // Whoever computes gradients in a way of their own may change any of them to the end.
    const onBlock = computeGradients === undefined ? (block: number) => reducer.blockDone(block) : undefined;
    const cut = { limits, checkpointing, neftune, lossScale, stepKey: before, stepSamples: size, onBlock };
    const settings = { ...cut, ...work.stepLoss };
    const reduced = async (): Promise<StepTotals> => {
      const own = await stepGradients(session, { step: before, samples: share }, settings, computeGradients);
      const tokens = share.reduce((sum, sample) => sum + sample.inputIds.length, 0);
      return reducer.reduceGradients({ ...own, tokens }, before + 1);
    };
    const totals = training.deterministic
      ? await orderedGradients(session, world, samples, settings, before + 1)
      : await reduced();
    const learningRate = training.learningRate * work.schedule.factor(progress.updates);
    const update = { lossScale, maxGradNorm: training.maxGradNorm, learningRate, update: progress.updates + 1 };
    optimizerStep.apply(update);

    const { skipped, totalNorm } = await optimizerStep.outcome();
    scaler?.update(skipped);
    if (skipped) {
      const names = await nonFiniteGradients(session);
      const next = scaler === undefined ? "" : `; loss scale ${lossScale} -> ${scaler.scale}`;
      onEvent?.({
        type: "warning",
        message: `step ${before + 1} skipped: ${names.length} of ${parameters.parameters.length} gradients are not finite, the deepest of them ${names.at(-1)}${next}`,
      });
    }
    const loss = (await totals.lossSum()) / totals.samples;
    const tokens = lengths.reduce((sum, length) => sum + length, 0);
    ranks.add(totals, (performance.now() - from) / 1000);
    progress.add({ loss, tokens, skipped, mendable: lossScale > 1 });
    samplesDone += size;
    window = {
      seconds: window.seconds + (performance.now() - from) / 1000,
      samples: window.samples + size,
      tokens: window.tokens + tokens,
    };

    const { step, epoch, unsound } = progress;
    const hopeless = unsound >= DIVERGED_STEPS;
    const { used, pooled } = gpu.memory.report();
    const pace = {
      samplesPerSecond: window.samples / window.seconds,
      tokensPerSecond: window.tokens / window.seconds,
      memoryBytes: used + pooled,
    };
    onEvent?.({ type: "step", step, totalSteps, epoch, loss, learningRate, ...pace });
    const logsFirst = step === 1 && training.loggingFirstStep;
    if (step % work.intervals.loggingSteps === 0 || logsFirst || step === totalSteps || hopeless) {
      const { loss: mean, skipped: skippedSteps } = progress.takeSinceLog();
      await run.log({
        ...ranks.takeSinceLog(),
        epoch,
        grad_norm: totalNorm,
        learning_rate: learningRate,
        loss: mean,
        num_input_tokens_seen: progress.tokens,
        skipped_steps: skippedSteps,
        step,
        tokens_per_second: pace.tokensPerSecond,
      });
      window = { seconds: 0, samples: 0, tokens: 0 };
      onEvent?.({
        type: "log",
        step,
        totalSteps,
        epoch,
        loss: mean,
        gradNorm: totalNorm,
        learningRate,
        skippedSteps,
        ...pace,
      });
    }
    if (hopeless) throw await endDiverged(run, proven);
    if (unsound === 0 && saved !== undefined && saved !== proven) {
      await pruneRun(run);
      proven = saved;
    }
    const { endsEpoch } = progress;
    if (evaluationIsDue(training.evalStrategy, work.intervals.evalSteps, { step, totalSteps, endsEpoch })) {
      metrics = (await evaluateHeldOut(run)) ?? metrics;
      const isBest = progress.best.evaluated(metrics, step);
      saveDue ||= isBest && training.saveStrategy === "best";
      if (progress.best.stops) onEvent?.({ type: "info", message: stopMessage(run) });
    }
    saveDue ||= isDue(training.saveStrategy, work.intervals.saveSteps, progress);
    // A state whose loss is no number would push out checkpoints that are sound: it waits for the next that is one.
    if (saveDue && unsound === 0) {
      await saveRun(run);
      saved = step;
      saveDue = false;
    }
    run.leaving.status = "interrupted"; // where whoever takes the steps takes no more
    let left = true;
    try {
      yield {
        step,
        totalSteps,
        epoch,
        loss,
        gradNorm: totalNorm,
        learningRate,
        skipped,
        lossScale,
        samples: size,
        tokens,
        session,
        stop: () => void (stopAsked = true),
      };
      left = false;
      run.leaving.status = "failed";
    } finally {
      // A script that breaks out of its loop keeps what it has trained.
      if (left) await finish(run, { metrics, saved, proven, started, samplesDone, firstStep });
    }
  }

  return finish(run, { metrics, saved, proven, started, samplesDone, firstStep });
}

/** Whether a run that ends saves its last step. */
const savesLast = ({ saveStrategy }: TrainingOptions): boolean => saveStrategy === "steps" || saveStrategy === "epoch";

function stopMessage({ config: { training }, work, progress }: TrainingRun): string {
  const { metric, step } = progress.best.state;
  const times =
    training.earlyStoppingPatience === 1
      ? "the last evaluation is"
      : `the last ${training.earlyStoppingPatience} evaluations are`;
  return `stopped early at step ${progress.step} of ${work.sampler.totalSteps}: ${times} no better than ${work.criterion?.metric} ${metric} of step ${step}`;
}

/** What the loop leaves behind. */
interface LoopEnd {
  readonly metrics: Readonly<Record<string, number>>;
  /** Step of the newest checkpoint. */
  readonly saved: number | undefined;
  /** Step of the newest after which a step was sound. */
  readonly proven: number | undefined;
  /** When the loop began, by `performance.now`. */
  readonly started: number;
  readonly samplesDone: number;
  readonly firstStep: number;
}

/** The last checkpoint, the log's summary and the report; where the run was interrupted, as much as lets it resume. */
async function finish(run: TrainingRun, end: LoopEnd): Promise<TrainResult> {
  const { config, onEvent, work, progress, optimizerStep } = run;
  const { training } = config;
  const { saved, proven, started, samplesDone, firstStep } = end;
  const { step } = progress;
  const interrupted = !progress.done;
  if (!interrupted) await run.cuts;
  if (progress.unsound > 0) {
    if (!interrupted) throw await endDiverged(run, proven);
    const message = `step ${step} is not saved: its loss or its gradients are not finite`;
    onEvent?.({ type: "warning", message });
  } else if (interrupted ? saved !== step : savesLast(training) && saved !== step) await saveRun(run);
  if (!interrupted) {
    const seconds = (performance.now() - started) / 1000;
    await run.log({
      epoch: progress.epoch,
      step,
      train_loss: progress.meanLoss,
      train_runtime: seconds,
      train_samples_per_second: samplesDone / seconds,
      train_steps_per_second: (step - firstStep) / seconds,
      total_flos: 0,
    });
  }
  if (interrupted && progress.unsound === 0) await pruneRun(run);
  const best = !interrupted && training.loadBestModelAtEnd ? await loadBestModel(run) : undefined;
  const report = interrupted ? await writeSummary(run) : await finishRun(run);
  await run.conclude(interrupted ? "interrupted" : "finished");
  optimizerStep.destroy();
  return {
    outputDir: training.outputDir,
    steps: step,
    totalSteps: work.sampler.totalSteps,
    trainLoss: progress.meanLoss,
    metrics: best ?? end.metrics,
    report,
    history: progress.history,
    interrupted,
  };
}

/** Leaves the folder of a run that lost its numbers as it stands. @param proven the last checkpoint after which a step was sound */
async function endDiverged(run: TrainingRun, proven: number | undefined): Promise<Error> {
  await writeSummary(run);
  const { step, unsound } = run.progress;
  const steps = unsound === 1 ? `step ${step} has` : `the last ${unsound} steps, up to ${step}, have`;
  const folder = proven === undefined ? undefined : checkpointPath(run.config.training.outputDir, proven);
  const from = folder && `Go on with --resume-from-checkpoint ${folder}, the last after which a step was sound,`;
  return diverged(`${steps} no finite loss or gradients`, from ?? "Start anew");
}
