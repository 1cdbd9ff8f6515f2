/**
 * The schedules of `training.lrSchedulerType`: those of transformers under their names there, in f64.
 * Source: huggingface/transformers, optimization.py.
 */
import { ConfigError } from "../../core/errors.ts";
import { defineOptions, option } from "../../core/options/options.ts";
import { defineSchedule, type ScheduleContext } from "../../core/plugin/schedule.ts";

/** Steps of at least 1, so that a run that is all warmup divides by no zero. */
const decaySteps = ({ totalSteps, warmupSteps }: ScheduleContext): number => Math.max(1, totalSteps - warmupSteps);

/** A factor that rises from 0 in warmup, and then is that of `after`. */
const warmed =
  ({ warmupSteps }: ScheduleContext, after: (updates: number) => number) =>
  (updates: number): number =>
    updates < warmupSteps ? updates / warmupSteps : after(updates);

/** A wave of the cosine from 1, `cycles` of them over `progress` from 0 to 1. */
const cosineWave = (cycles: number, progress: number): number => 0.5 * (1 + Math.cos(Math.PI * cycles * 2 * progress));

const waves = option("number > 0", {
  default: 0.5,
  help: "waves of the cosine; half a one only falls",
});

const constant = defineSchedule({
  name: "constant",
  options: defineOptions({}),
  create: () => ({ factor: () => 1 }),
});

const constantWithWarmup = defineSchedule({
  name: "constant_with_warmup",
  options: defineOptions({}),
  create: (_options, context) => ({ factor: warmed(context, () => 1) }),
});

const linear = defineSchedule({
  name: "linear",
  options: defineOptions({}),
  create: (_options, context) => ({
    factor: warmed(context, (updates) => Math.max(0, (context.totalSteps - updates) / decaySteps(context))),
  }),
});

const cosine = defineSchedule({
  name: "cosine",
  options: defineOptions({ numCycles: waves }),
  create: ({ numCycles }, context) => ({
    factor: warmed(context, (updates) =>
      Math.max(0, cosineWave(numCycles, (updates - context.warmupSteps) / decaySteps(context))),
    ),
  }),
});

const cosineWithRestarts = defineSchedule({
  name: "cosine_with_restarts",
  options: defineOptions({
    numCycles: option("number.integer >= 1", { default: 1, help: "times that the rate falls from its peak" }),
  }),
  create: ({ numCycles }, context) => ({
    factor: warmed(context, (updates) => {
      const progress = (updates - context.warmupSteps) / decaySteps(context);
      return progress >= 1 ? 0 : Math.max(0, cosineWave(0.5, (numCycles * progress) % 1));
    }),
  }),
});

const polynomial = defineSchedule({
  name: "polynomial",
  options: defineOptions({
    lrEnd: option("number >= 0", { default: 1e-7, help: "learning rate at the end; below learningRate" }),
    power: option("number > 0", { default: 1, help: "power of the share of steps that is left" }),
  }),
  create({ lrEnd, power }, context) {
    const { learningRate, totalSteps, warmupSteps } = context;
    if (!(learningRate > lrEnd)) {
      const message = `training.lrSchedulerKwargs.lrEnd: got ${lrEnd}, expected less than learningRate, ${learningRate}`;
      throw new ConfigError("SCHEDULE_INVALID", message);
    }
    const decayed = (updates: number): number => {
      if (updates > totalSteps) return lrEnd / learningRate;
      const left = 1 - (updates - warmupSteps) / decaySteps(context);
      return ((learningRate - lrEnd) * left ** power + lrEnd) / learningRate;
    };
    return { factor: warmed(context, decayed) };
  },
});

/** Updates in which a rate falls to 1 / sqrt(2) of its peak, where neither timescale nor warmup is given. */
const TIMESCALE = 10_000;

const inverseSqrt = defineSchedule({
  name: "inverse_sqrt",
  options: defineOptions({
    timescale: option("number > 0", {
      optional: true,
      help: `updates that the fall is measured by (default: those of warmup, or ${TIMESCALE})`,
    }),
  }),
  create({ timescale }, context) {
    const scale = timescale ?? (context.warmupSteps || TIMESCALE);
    const shift = scale - context.warmupSteps;
    return { factor: warmed(context, (updates) => 1 / Math.sqrt((updates + shift) / scale)) };
  },
});

const floor = {
  numCycles: waves,
  minLr: option("number >= 0", { optional: true, help: "least learning rate" }),
  minLrRate: option("0 <= number <= 1", { optional: true, help: "the same as a share of learningRate" }),
};

interface Floor {
  readonly minLr: number | undefined;
  readonly minLrRate: number | undefined;
}

const oneFloor = ({ minLr, minLrRate }: Floor): string[] => {
  if ((minLr === undefined) !== (minLrRate === undefined)) return [];
  return [`minLr: got ${minLr === undefined ? "neither it nor" : "it and"} minLrRate, expected one of them`];
};

const floorRate = ({ minLr, minLrRate }: Floor, learningRate: number): number =>
  minLr === undefined ? minLrRate! : minLr / learningRate;

const cosineWithMinLr = defineSchedule({
  name: "cosine_with_min_lr",
  options: defineOptions(floor, oneFloor),
  create(options, context) {
    const least = floorRate(options, context.learningRate);
    const decayed = (updates: number): number => {
      const wave = cosineWave(options.numCycles, (updates - context.warmupSteps) / decaySteps(context));
      return Math.max(0, wave * (1 - least) + least);
    };
    return { factor: warmed(context, decayed) };
  },
});

const cosineWarmupWithMinLr = defineSchedule({
  name: "cosine_warmup_with_min_lr",
  options: defineOptions(
    {
      ...floor,
      warmupLrRate: option("0 <= number <= 1", {
        optional: true,
        help: "share of learningRate that warmup begins with (default: one step's share of warmup)",
      }),
    },
    oneFloor,
  ),
  create(options, context) {
    const { warmupSteps, learningRate } = context;
    const { warmupLrRate: start, numCycles } = options;
    const least = floorRate(options, learningRate);
    return {
      factor(updates) {
        if (updates < warmupSteps && start === undefined) return (updates + 1) / Math.max(1, warmupSteps);
        if (updates < warmupSteps) return start! + ((1 - start!) * updates) / Math.max(1, warmupSteps - 1);
        // One step ahead of `cosine_with_min_lr`, as it is there.
        const wave = cosineWave(numCycles, (updates - warmupSteps + 1) / decaySteps(context));
        return Math.max(0, wave * (1 - least) + least);
      },
    };
  },
});

type Shape = "linear" | "cosine" | "1-sqrt";
const shapes = "'linear' | 'cosine' | '1-sqrt'" as const;

const rising: Readonly<Record<Shape, (progress: number) => number>> = {
  linear: (progress) => progress,
  cosine: (progress) => 0.5 * (1 - Math.cos(Math.PI * progress)),
  "1-sqrt": (progress) => 1 - Math.sqrt(1 - progress),
};

const falling: Readonly<Record<Shape, (progress: number, cycles: number) => number>> = {
  linear: (progress) => 1 - progress,
  cosine: (progress, cycles) => cosineWave(cycles, progress),
  "1-sqrt": (progress) => 1 - Math.sqrt(progress),
};

const warmupStableDecay = defineSchedule({
  name: "warmup_stable_decay",
  options: defineOptions({
    numDecaySteps: option("number.integer >= 0", { help: "updates of the fall at the end" }),
    numStableSteps: option("number.integer >= 0", {
      optional: true,
      help: "updates at the peak (default: those that warmup and the fall leave)",
    }),
    warmupType: option(shapes, { default: "linear", help: "how the rate rises" }),
    decayType: option(shapes, { default: "cosine", help: "how the rate falls" }),
    minLrRatio: option("0 <= number <= 1", { default: 0, help: "least share of learningRate" }),
    numCycles: waves,
  }),
  create({ numDecaySteps, numStableSteps, warmupType, decayType, minLrRatio, numCycles }, context) {
    const { warmupSteps, totalSteps } = context;
    const stable = numStableSteps ?? totalSteps - warmupSteps - numDecaySteps;
    const above = (factor: number): number => Math.max(0, factor * (1 - minLrRatio) + minLrRatio);
    return {
      factor(updates) {
        if (updates < warmupSteps) return above(rising[warmupType](updates / Math.max(1, warmupSteps)));
        const sinceStable = updates - warmupSteps - stable;
        if (sinceStable < 0) return 1;
        if (sinceStable >= numDecaySteps) return minLrRatio;
        return above(falling[decayType](sinceStable / Math.max(1, numDecaySteps), numCycles));
      },
    };
  },
});

const ALL = [
  linear,
  cosine,
  cosineWithRestarts,
  polynomial,
  constant,
  constantWithWarmup,
  inverseSqrt,
  cosineWithMinLr,
  cosineWarmupWithMinLr,
  warmupStableDecay,
] as const;

/** Names of `training.lrSchedulerType`. */
export const SCHEDULE_NAMES = [
  "linear",
  "cosine",
  "cosine_with_restarts",
  "polynomial",
  "constant",
  "constant_with_warmup",
  "inverse_sqrt",
  "cosine_with_min_lr",
  "cosine_warmup_with_min_lr",
  "warmup_stable_decay",
] as const;
export type LrSchedulerType = (typeof SCHEDULE_NAMES)[number];

/** The schedule of a name. */
export const scheduleFactory = (type: LrSchedulerType): (typeof ALL)[number] => ALL.find(({ name }) => name === type)!;

/** Keyword arguments with names as transformers spells them (`num_cycles`) or as ours (`numCycles`). */
export function camelKeys(kwargs: object): Readonly<Record<string, unknown>> {
  const camel = (key: string): string => key.replaceAll(/_([a-z])/g, (_, letter: string) => letter.toUpperCase());
  return Object.fromEntries(Object.entries(kwargs).map(([key, value]) => [camel(key), value]));
}
