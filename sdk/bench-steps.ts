/** Times whole optimizer steps on random ids: forward, backward, clip and update, dropout on. */
import type { Checkpointing } from "../core/compute/blocks.ts";
import type { ProfileLine } from "../core/device/profile.ts";
import type { AdapterPlugin } from "../core/plugin/adapter.ts";
import type { ModelLoader } from "../core/plugin/model.ts";
import type { OptimizerPlugin } from "../core/plugin/optimizer.ts";
import { type Roofline, measureRoofline } from "../kernels/roofline/index.ts";
import type { DeviceOptions } from "../runtime/config/device-options.ts";
import { splitMicroBatches, type Sample } from "../runtime/data/pack.ts";
import { openGpu } from "../runtime/device/open.ts";
import { openRankDevice } from "../runtime/device/rank-device.ts";
import { dealByTokens } from "../runtime/distributed/deal.ts";
import { openWorld } from "../runtime/distributed/index.ts";
import { RankPace } from "../runtime/distributed/pace.ts";
import type { World } from "../runtime/distributed/world.ts";
import type { RunListener } from "../runtime/events.ts";
import { planLine } from "../runtime/planning/format.ts";
import { KernelWarmup, type BatchShapes } from "../runtime/planning/kernel-warmup.ts";
import { openPlanned, type Planned, stepsOf } from "../runtime/planning/open.ts";
import type { MemorySettings, MemoryMode } from "../runtime/planning/settings.ts";
import { batchesOf } from "../runtime/planning/upcoming-batches.ts";
import { openSession, type Session } from "../runtime/session/session.ts";
import { OptimizerStep } from "../runtime/training/optimizer-step.ts";
import { createReducer } from "../runtime/training/reduce.ts";
import { accumulateGradients } from "../runtime/training/step.ts";

/** What to time. */
export interface BenchOptions {
  readonly source: ModelLoader;
  readonly adapter: AdapterPlugin;
  readonly optimizer: OptimizerPlugin;
  readonly device: DeviceOptions;
  /** Token counts of samples, used in turn. */
  readonly lengths: readonly number[];
  /** Samples of one optimizer step. */
  readonly samplesPerStep: number;
  /** Most tokens of a micro-batch; undefined: the whole step, where `memory` does not choose. */
  readonly tokenBudget: number | undefined;
  readonly steps: number;
  readonly warmup: number;
  /** Undefined: none, where `memory` does not choose. */
  readonly checkpointing: Checkpointing | undefined;
  /** Chooses by the GPU's memory what is undefined. */
  readonly memory: MemoryMode | undefined;
  /** Times every kernel in one extra step. */
  readonly profile: boolean;
  readonly onEvent?: RunListener | undefined;
}

/** What was measured. */
export interface BenchResult {
  readonly device: string;
  readonly tier: string;
  readonly steps: number;
  readonly secondsPerStep: number;
  readonly samplesPerSecond: number;
  /** Non-padding tokens. */
  readonly tokensPerSecond: number;
  /** Seconds of each timed step. */
  readonly stepSeconds: readonly number[];
  /** From the start of loading to the end of the first step. */
  readonly secondsToFirstStep: number;
  readonly loadSeconds: number;
  /** Most bytes of GPU memory held, pool included. */
  readonly peakBytes: number;
  /** What the memory plan foresaw; undefined without one. */
  readonly plan: { readonly settings: MemorySettings; readonly peakBytes: number } | undefined;
  readonly lastLoss: number;
  /** Growth of the process's resident memory, and of GPU memory held, over the timed steps. */
  /** Mean loss of each step, those before timing included. */
  readonly losses: readonly number[];
  /** Of several ranks, as in metrics.jsonl: shares of the time for sums and for waiting, and each rank's own speed. */
  readonly ranks: Readonly<Record<string, number>> | undefined;
  readonly hostGrowthBytes: number;
  readonly gpuGrowthBytes: number;
  /** Steps skipped because a gradient was not finite. */
  readonly skipped: number;
  readonly profile: readonly ProfileLine[];
  /** What the profile's rates are held against; undefined without a profile. */
  readonly roofline: Roofline | undefined;
}

const NUM_LABELS = 3;

/** Deterministic ids in 5 … vocabSize-1; every sample differs. */
function randomSamples(options: BenchOptions, vocabSize: number, step: number): Sample[] {
  return stepLengths(options, step).map((length, i) => {
    const index = step * options.samplesPerStep + i;
    let state = (Math.imul(index + 1, 0x9e3779b1) ^ 0x85ebca6b) >>> 0;
    const inputIds = Uint32Array.from({ length }, () => {
      state ^= state << 13;
      state ^= state >>> 17;
      state ^= state << 5;
      return 5 + ((state >>> 0) % (vocabSize - 5));
    });
    return { index, inputIds, label: index % 3 };
  });
}

/** Tokens of the samples of a step. */
function stepLengths({ lengths, samplesPerStep }: BenchOptions, step: number): number[] {
  return Array.from({ length: samplesPerStep }, (_, i) => lengths[(step * samplesPerStep + i) % lengths.length]!);
}

/** Places in a step that a rank computes. */
const shareOf = (lengths: readonly number[], { rank, size }: World): readonly number[] =>
  dealByTokens(lengths, size)[rank]!;

/** Micro-batches of every step, the profile's included. */
async function* benchBatches(options: BenchOptions, maxTokens: number, world: World): BatchShapes {
  for (let step = 0; step <= options.warmup + options.steps; step++) {
    const all = stepLengths(options, step);
    const lengths = shareOf(all, world).map((i) => all[i]!);
    yield batchesOf(splitMicroBatches(lengths, { maxTokens }), lengths, true);
  }
}

async function openForBench({
  memory,
  source,
  adapter,
  optimizer,
  device,
  lengths,
  samplesPerStep,
  tokenBudget,
  checkpointing,
}: BenchOptions): Promise<Partial<Planned> & Pick<Planned, "gpu">> {
  if (memory === undefined) return { gpu: await openGpu(device) };
  const work = {
    source,
    adapter,
    numLabels: NUM_LABELS,
    training: {
      optimizer: ({ gpu, parameters }: Session) => optimizer.create({ gpu, parameters }),
      steps: stepsOf(lengths, samplesPerStep),
      maxSamples: undefined,
    },
  };
  const given = { tokenBudget, checkpointing, placement: source.placement };
  return openPlanned({ device, mode: memory, given, work });
}

/** Runs the benchmark. @throws ModelError, DeviceError */
export async function benchSteps(asked: BenchOptions): Promise<BenchResult> {
  const world = await openWorld();
  const options = { ...asked, onEvent: world.rank === 0 ? asked.onEvent : undefined };
  const { source, optimizer: plugin, warmup, steps } = options;
  const started = performance.now();
  const { vocabSize } = await source.outline(NUM_LABELS);
  const rankDevice = await openRankDevice(options.device.device, world);
  const planned = await openForBench(options);
  await rankDevice.check(planned.gpu.info);
  const { gpu: opened, plan, forecast } = planned;
  if (plan !== undefined) options.onEvent?.({ type: "info", message: `memory ${planLine(plan)}` });
  const { checkpointing = "none", tokenBudget = Infinity } = plan?.settings ?? options;
  const kernels = forecast && new KernelWarmup({ gpu: opened, forecast }, benchBatches(options, tokenBudget, world));
  using session = await openSession({
    source,
    adapter: options.adapter,
    device: options.device,
    gpu: opened,
    placement: plan?.settings,
    kernels,
    numLabels: NUM_LABELS,
    seed: 1,
    onEvent: options.onEvent,
  });
  const { gpu, parameters } = session;
  const loadSeconds = (performance.now() - started) / 1000;
  const optimizerStep = new OptimizerStep(session, plugin.create({ gpu, parameters }));
  const lossScale = gpu.tier === "f32" ? 1 : 1024;
  const reducer = createReducer(gpu, parameters, world);
  const pace = new RankPace(world.size);
  const losses: number[] = [];
  let skipped = 0;
  let secondsToFirstStep = 0;
  const runStep = async (step: number): Promise<number> => {
    const from = performance.now();
    const samples = randomSamples(options, vocabSize, step);
    const own = shareOf(stepLengths(options, step), world).map((i) => samples[i]!);
    parameters.zeroGrad();
    const settings = {
      limits: { maxTokens: tokenBudget },
      checkpointing,
      lossScale,
      stepKey: step,
      stepSamples: samples.length,
      onBlock: (block: number) => reducer.blockDone(block),
    };
    const lossOf = own.length === 0 ? undefined : await accumulateGradients(session, own, settings);
    const lossSum = async (): Promise<number> => {
      if (lossOf === undefined) return 0;
      const values = await gpu.readFloats(lossOf);
      gpu.free(lossOf);
      return values.reduce((sum, value) => sum + value, 0);
    };
    const tokens = own.reduce((sum, { inputIds }) => sum + inputIds.length, 0);
    const totals = await reducer.reduceGradients({ lossSum, samples: own.length, tokens }, step + 1);
    optimizerStep.apply({ lossScale, maxGradNorm: 1, learningRate: 1e-4, update: step + 1 });
    losses.push((await totals.lossSum()) / totals.samples);
    if ((await optimizerStep.outcome()).skipped) skipped++;
    if (step === 0) secondsToFirstStep = (performance.now() - started) / 1000;
    pace.add(totals, (performance.now() - from) / 1000);
    return totals.tokens;
  };
  gpu.memory.resetPeak();
  for (let step = 0; step < warmup; step++) await runStep(step);
  if (warmup > 0) await kernels?.done();
  pace.takeSinceLog(); // of the steps before timing
  const stepSeconds: number[] = [];
  const before = { host: process.memoryUsage.rss(), gpu: gpu.memory.report() };
  let tokens = 0;
  for (let step = 0; step < steps; step++) {
    const from = performance.now();
    tokens += await runStep(warmup + step);
    stepSeconds.push((performance.now() - from) / 1000);
    options.onEvent?.({ type: "progress", what: "timing", done: step + 1, total: steps });
  }
  const after = gpu.memory.report();
  const peakBytes = after.peak;
  const hostGrowthBytes = process.memoryUsage.rss() - before.host;
  const gpuGrowthBytes = after.used + after.pooled - before.gpu.used - before.gpu.pooled;
  const ranks = world.size === 1 ? undefined : pace.takeSinceLog();
  let profile: readonly ProfileLine[] = [];
  let roofline: Roofline | undefined;
  if (options.profile) {
    gpu.profileStart();
    await runStep(warmup + steps);
    profile = await gpu.profileEnd();
    roofline = await measureRoofline(gpu);
  }
  optimizerStep.destroy();
  reducer.free();
  const seconds = stepSeconds.reduce((sum, s) => sum + s, 0);
  return {
    device: gpu.info.adapter.description || gpu.info.adapter.device,
    tier: gpu.tier,
    steps,
    secondsPerStep: seconds / steps,
    samplesPerSecond: (steps * options.samplesPerStep) / seconds,
    tokensPerSecond: tokens / seconds,
    stepSeconds,
    secondsToFirstStep,
    loadSeconds,
    peakBytes,
    plan: plan && { settings: plan.settings, peakBytes: plan.figures.peak },
    losses,
    lastLoss: losses.at(-1) ?? Number.NaN,
    ranks,
    hostGrowthBytes,
    gpuGrowthBytes,
    skipped,
    profile,
    roofline,
  };
}
