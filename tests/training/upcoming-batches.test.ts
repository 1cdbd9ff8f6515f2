/** What a run is known to come to: its batches in their order, those of an evaluation once. */
import { expect, test } from "bun:test";
import type { BatchShape } from "../../core/device/batch-shape.ts";
import type { TokenizedDataset } from "../../runtime/data/dataset-tokenizer.ts";
import { createSampler } from "../../runtime/data/sampler.ts";
import { trainingBatches, type TrainingBatchesOptions } from "../../runtime/planning/upcoming-batches.ts";

/** A dataset of which nothing but the token counts is looked at. */
function dataOf(lengths: readonly number[]): TokenizedDataset {
  return {
    ready: async (rows: ArrayLike<number>) => Array.from(rows, (row) => new Uint32Array(lengths[row]!)),
    done: async () => ({ lengths: Uint32Array.from(lengths) }),
  } as unknown as TokenizedDataset;
}

const options = (parts: Partial<TrainingBatchesOptions> = {}): TrainingBatchesOptions => ({
  training: { evalStrategy: "steps", evalOnStart: false },
  evalSteps: 2,
  sampler: createSampler({ size: 7, samplesPerStep: 3, seed: 1, shuffle: false, numTrainEpochs: 2 }),
  trainData: dataOf([10, 20, 30, 40, 50, 60, 70]),
  evalData: dataOf([5, 9, 7]),
  limits: { maxTokens: 1000, maxSamples: 2 },
  evalLimits: { maxTokens: 15, maxSamples: 2 },
  from: 0,
  ownGradients: false,
  ...parts,
});

async function told(given: TrainingBatchesOptions): Promise<string[]> {
  const steps: string[] = [];
  const word = ({ lengths, training }: BatchShape): string => `${training ? "train" : "eval"} ${lengths.join("+")}`;
  for await (const batches of trainingBatches(given)) steps.push(batches.map(word).join(", "));
  return steps;
}

const FIRST = "train 10+20, train 30";
const SECOND = "train 40+50, train 60";

test("micro-batches of every step, the last one short, and after the step before the first evaluation its batches", async () => {
  const evaluation = ["eval 9", "eval 7+5"];
  expect(await told(options())).toEqual([FIRST, SECOND, ...evaluation, "train 70", FIRST, SECOND, "train 70"]);
});

test("a run that goes on begins where it does; evaluation after an epoch comes after its last step", async () => {
  const training = { evalStrategy: "epoch", evalOnStart: false } as const;
  const rest = ["train 70", FIRST, SECOND, "train 70"];
  expect(await told(options({ from: 2, training }))).toEqual([rest[0]!, "eval 9", "eval 7+5", ...rest.slice(1)]);
  expect(await told(options({ from: 2, evalData: undefined }))).toEqual(rest);
});

test("gradients computed in somebody's own way: the first step stands for the rest", async () => {
  expect(await told(options({ ownGradients: true }))).toEqual([FIRST, "eval 9", "eval 7+5"]);
});

test("an evaluation before the first step comes first, and after the last where no other is due", async () => {
  const first = { evalStrategy: "no", evalOnStart: true } as const;
  const steps = [FIRST, SECOND, "train 70", FIRST, SECOND, "train 70"];
  expect(await told(options({ training: first }))).toEqual(["eval 9", "eval 7+5", ...steps]);
  expect(await told(options({ training: first, from: 4 }))).toEqual(steps.slice(4));
  expect(await told(options({ evalSteps: 100 }))).toEqual([...steps, "eval 9", "eval 7+5"]);
});
