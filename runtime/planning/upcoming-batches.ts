import type { BatchShape } from "../../core/device/batch-shape.ts";
import type { TrainingOptions } from "../config/training-options.ts";
import type { TokenizedDataset } from "../data/dataset-tokenizer.ts";
import { groupLengths, lengthSortedBatches, type PackLimits, rowsOfGroups, splitMicroBatches } from "../data/pack.ts";
import type { Sampler } from "../data/sampler.ts";
import { dealBatches, dealByTokens } from "../distributed/deal.ts";
import { alone, type World } from "../distributed/world.ts";
import { evaluationIsDue } from "../training/intervals.ts";
import type { BatchShapes } from "./kernel-warmup.ts";

/** What the batches of a training run depend on. */
export interface TrainingBatchesOptions {
  readonly training: Pick<TrainingOptions, "evalStrategy" | "evalOnStart">;
  /** Steps between two evaluations. */
  readonly evalSteps: number;
  readonly sampler: Sampler;
  readonly trainData: TokenizedDataset;
  readonly evalData: TokenizedDataset | undefined;
  readonly limits: PackLimits;
  readonly evalLimits: PackLimits;
  /** Rows that make one sample; default 1. */
  readonly rowsPerSample?: 1 | 2 | undefined;
  /** Steps done before. */
  readonly from: number;
  /** Custom computeGradients: batches past the first step are unknown. */
  readonly ownGradients: boolean;
  /** Whose share is told; default: all. */
  readonly world?: Pick<World, "rank" | "size"> | undefined;
}

/** Micro-batches of each optimizer step; where the first evaluation is due its batches come too, later ones are the same. @throws DataError */
export async function* trainingBatches(options: TrainingBatchesOptions): BatchShapes {
  const {
    training,
    evalSteps,
    sampler,
    trainData,
    evalData,
    limits,
    evalLimits,
    from,
    ownGradients,
    world = alone,
  } = options;
  const { stepsPerEpoch, totalSteps } = sampler;
  const { rowsPerSample = 1 } = options;
  let evaluated = evalData === undefined;
  let step = from;
  if (!evaluated && training.evalOnStart && from === 0) {
    evaluated = true;
    yield* forwardBatches([evalData!], evalLimits, world);
  }
  for (const rows of sampler.batches(from)) {
    const told = !ownGradients || step === from;
    if (told) {
      const all = (await trainData.ready(rowsOfGroups(rows, rowsPerSample))).map((ids) => ids.length);
      const own = dealByTokens(groupLengths(all, rowsPerSample), world.size)[world.rank]!;
      const lengths = rowsOfGroups(own, rowsPerSample).map((i) => all[i]!);
      const cut = splitMicroBatches(groupLengths(lengths, rowsPerSample), limits);
      yield batchesOf(
        cut.map((members) => rowsOfGroups(members, rowsPerSample)),
        lengths,
        true,
      );
    }
    step++;
    const endsEpoch = step % stepsPerEpoch === 0 || step === totalSteps;
    if (!evaluated && evaluationIsDue(training.evalStrategy, evalSteps, { step, totalSteps, endsEpoch })) {
      evaluated = true;
      yield* forwardBatches([evalData!], evalLimits, world);
    }
  }
}

/** Batches of forward passes over datasets. @throws DataError */
export async function* forwardBatches(
  datasets: readonly TokenizedDataset[],
  limits: PackLimits,
  { rank, size }: Pick<World, "rank" | "size"> = alone,
): BatchShapes {
  for (const data of datasets) {
    const { lengths } = await data.done();
    const batches = lengthSortedBatches(lengths, limits);
    const own = dealBatches(batches, lengths, size)[rank]!.map((i) => batches[i]!);
    for (const batch of batchesOf(own, lengths, false)) yield [batch];
  }
}

/** Token counts in the place of positions. */
export function batchesOf(
  cut: readonly (readonly number[])[],
  lengths: ArrayLike<number>,
  training: boolean,
): BatchShape[] {
  return cut.map((members) => ({ lengths: members.map((i) => lengths[i]!), training }));
}
