import { ConfigError } from "../../core/errors.ts";
import { sfc32 } from "../../core/util/sfc32.ts";

export type SamplerOptions = {
  /** Number of training rows. */
  readonly size: number;
  /** Samples in one optimizer step: `perDeviceTrainBatchSize * gradientAccumulationSteps`. */
  readonly samplesPerStep: number;
  readonly seed: number;
  /** Default true: a new permutation each epoch. */
  readonly shuffle?: boolean | undefined;
  /** May be fractional, as transformers allows; default 1. */
  readonly numTrainEpochs?: number | undefined;
  /** Where positive, replaces `numTrainEpochs`; the epochs wrap as often as it needs. */
  readonly maxSteps?: number | undefined;
};

/** Which rows each optimizer step sees; a pure function of the step, so that resuming needs no state but the step. */
export interface Sampler {
  readonly stepsPerEpoch: number;
  readonly totalSteps: number;
  /** Row indices of epoch `epoch` (from 0) in training order. */
  order(epoch: number): Uint32Array;
  /** Row indices of global step `step` (from 0). */
  batch(step: number): Uint32Array;
  /** The batches of step `from` to the last, to look ahead: keeps its own copy of an epoch's order. */
  batches(from: number): Iterable<Uint32Array>;
}

/** A sampler by transformers' step rules: `ceil(size / samplesPerStep)` steps an epoch, the last group short. @throws ConfigError */
export function createSampler(options: SamplerOptions): Sampler {
  const { size, samplesPerStep, seed, shuffle = true, numTrainEpochs = 1, maxSteps = 0 } = options;
  const problems = [
    ...(Number.isInteger(size) && size > 0 ? [] : [`size: expected at least one training row, got ${size}`]),
    ...(Number.isInteger(samplesPerStep) && samplesPerStep > 0
      ? []
      : [`samplesPerStep: expected a positive whole number, got ${samplesPerStep}`]),
    ...(Number.isSafeInteger(seed) && seed >= 0 ? [] : [`seed: expected a whole number from 0, got ${seed}`]),
    ...(maxSteps > 0 || numTrainEpochs > 0
      ? []
      : [`numTrainEpochs: expected a positive number, got ${numTrainEpochs}`]),
  ];
  if (problems.length > 0) throw new ConfigError("SAMPLER_OPTIONS", problems);

  const stepsPerEpoch = Math.ceil(size / samplesPerStep);
  const totalSteps = maxSteps > 0 ? maxSteps : Math.ceil(numTrainEpochs * stepsPerEpoch);
  let cached: { readonly epoch: number; readonly order: Uint32Array } | undefined;
  const ordered = (epoch: number): Uint32Array =>
    shuffle ? permutation(size, seed, epoch) : Uint32Array.from({ length: size }, (_, i) => i);
  const order = (epoch: number): Uint32Array => {
    if (cached?.epoch !== epoch) cached = { epoch, order: ordered(epoch) };
    return cached.order;
  };
  const batchOf = (rows: Uint32Array, step: number): Uint32Array => {
    const start = (step % stepsPerEpoch) * samplesPerStep;
    return rows.slice(start, start + samplesPerStep);
  };
  return {
    stepsPerEpoch,
    totalSteps,
    order: (epoch) => order(epoch).slice(),
    batch: (step) => batchOf(order(Math.floor(step / stepsPerEpoch)), step),
    *batches(from) {
      let rows: Uint32Array | undefined;
      for (let step = from; step < totalSteps; step++) {
        if (rows === undefined || step % stepsPerEpoch === 0) rows = ordered(Math.floor(step / stepsPerEpoch));
        yield batchOf(rows, step);
      }
    },
  };
}

/** A uniform permutation of 0..size-1 by Fisher and Yates, fixed by (seed, epoch). */
export function permutation(size: number, seed: number, epoch: number): Uint32Array {
  const next = sfc32(seed, epoch);
  const order = Uint32Array.from({ length: size }, (_, i) => i);
  for (let last = size - 1; last > 0; last--) {
    const other = below(last + 1, next);
    const kept = order[last]!;
    order[last] = order[other]!;
    order[other] = kept;
  }
  return order;
}

/** A uniform integer in [0, bound): draws beyond the last whole multiple of `bound` are thrown away. */
function below(bound: number, next: () => number): number {
  const limit = 2 ** 32 - (2 ** 32 % bound);
  for (;;) {
    const draw = next();
    if (draw < limit) return draw % bound;
  }
}
