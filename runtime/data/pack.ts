import type { PackedArrays } from "../../core/compute/batch.ts";
import { ConfigError } from "../../core/errors.ts";
import type { DataRow } from "./formats/index.ts";

/** One tokenized sample, ready to be packed. */
export type Sample = { readonly inputIds: Uint32Array; readonly label: number | undefined; readonly index: number };

/** How many tokens and samples a micro-batch may hold. */
export type PackLimits = { readonly maxTokens: number; readonly maxSamples?: number | undefined };

function checkLimits({ maxTokens, maxSamples = 1 }: PackLimits): void {
  // Written so that NaN fails too.
  if (!(maxTokens >= 1)) throw new ConfigError("PACK_LIMITS", `maxTokens: expected at least 1, got ${maxTokens}`);
  if (!(maxSamples >= 1)) throw new ConfigError("PACK_LIMITS", `maxSamples: expected at least 1, got ${maxSamples}`);
}

/** Lengths of samples that are `rows` rows each, one after the other. @throws RangeError for a part of one */
export function groupLengths(lengths: readonly number[], rows: 1 | 2): readonly number[] {
  if (rows === 1) return lengths;
  if (lengths.length % 2 === 1) throw new RangeError(`${lengths.length} rows are no pairs`);
  return Array.from({ length: lengths.length / 2 }, (_, i) => lengths[2 * i]! + lengths[2 * i + 1]!);
}

/** Positions of the rows of samples that are `rows` rows each. */
export const rowsOfGroups = (positions: ArrayLike<number>, rows: 1 | 2): number[] =>
  Array.from(positions).flatMap((position) => (rows === 1 ? [position] : [2 * position, 2 * position + 1]));

type Bin = { readonly members: number[]; tokens: number };

/**
 * Cuts an optimizer batch into as few micro-batches as first fit finds, then levels them: equal sizes meet the same
 * buffers again and keep the device equally busy. Order is kept inside each. Only a sample that is longer than
 * `maxTokens` by itself exceeds it, alone.
 * @param lengths tokens of each sample
 * @returns positions in `lengths`, one list for each micro-batch
 * @throws ConfigError
 */
export function splitMicroBatches(lengths: ArrayLike<number>, limits: PackLimits): number[][] {
  checkLimits(limits);
  const { maxTokens, maxSamples = Infinity } = limits;
  const bins: Bin[] = [];
  const fits = ({ members, tokens }: Bin, length: number): boolean =>
    tokens + length <= maxTokens && members.length < maxSamples;
  let full = 0; // bins before this one hold `maxSamples`
  for (let position = 0; position < lengths.length; position++) {
    const length = lengths[position]!;
    while ((bins[full]?.members.length ?? 0) >= maxSamples) full++;
    let at = full;
    while (at < bins.length && !fits(bins[at]!, length)) at++;
    const bin = bins[at];
    if (bin === undefined) bins.push({ members: [position], tokens: length });
    else {
      bin.members.push(position);
      bin.tokens += length;
    }
  }
  const uneven = Number.isFinite(maxTokens) && bins.length > 1 && bins.length < lengths.length;
  const level = uneven ? levelled(lengths, bins.length, limits) : undefined;
  return level ?? bins.map(({ members }) => members);
}

/** Longest first, each into the emptiest of `count` bins; undefined where that breaks a limit. */
function levelled(lengths: ArrayLike<number>, count: number, limits: PackLimits): number[][] | undefined {
  const { maxTokens, maxSamples = Infinity } = limits;
  const bins = Array.from({ length: count }, () => ({ members: [] as number[], tokens: 0 }));
  const longestFirst = Array.from(lengths, (_, position) => position).sort(
    (a, b) => lengths[b]! - lengths[a]! || a - b,
  );
  for (const position of longestFirst) {
    const open = bins.filter(({ members }) => members.length < maxSamples);
    const emptiest = open.reduce((least, bin) => (bin.tokens < least.tokens ? bin : least), open[0]!);
    if (emptiest === undefined) return undefined;
    if (emptiest.members.length > 0 && emptiest.tokens + lengths[position]! > maxTokens) return undefined;
    emptiest.members.push(position);
    emptiest.tokens += lengths[position]!;
  }
  for (const { members } of bins) members.sort((a, b) => a - b);
  return bins.map(({ members }) => members).sort((a, b) => a[0]! - b[0]!);
}

/**
 * Batches for evaluation and prediction: longest first (the largest memory need shows at once), cut by the same limits.
 * Put results back with `restoreOrder`.
 * @returns positions in `lengths`, one list for each batch
 * @throws ConfigError
 */
export function lengthSortedBatches(lengths: ArrayLike<number>, limits: PackLimits): number[][] {
  checkLimits(limits);
  const { maxTokens, maxSamples = Infinity } = limits;
  const sorted = Array.from(lengths, (_, position) => position).sort((a, b) => lengths[b]! - lengths[a]! || a - b);
  const batches: number[][] = [];
  let tokens = 0;
  for (const position of sorted) {
    const length = lengths[position]!;
    const batch = batches.at(-1);
    if (batch === undefined || tokens + length > maxTokens || batch.length >= maxSamples) {
      batches.push([position]);
      tokens = length;
    } else {
      batch.push(position);
      tokens += length;
    }
  }
  return batches;
}

/** Puts per-sample results of `batches` back in input order. @throws RangeError unless every position got exactly one */
export function restoreOrder<T>(batches: readonly (readonly number[])[], results: readonly (readonly T[])[]): T[] {
  const matching =
    batches.length === results.length && batches.every((batch, b) => batch.length === results[b]!.length);
  const size = batches.reduce((sum, batch) => sum + batch.length, 0);
  const filled = new Map<number, T>();
  if (matching) batches.forEach((batch, b) => batch.forEach((position, i) => filled.set(position, results[b]![i]!)));
  if (filled.size !== size) throw new RangeError("results do not match their batches");
  return Array.from({ length: size }, (_, position) => {
    if (!filled.has(position)) throw new RangeError(`no result for sample ${position}`);
    return filled.get(position)!;
  });
}

/** Lays samples end to end. @throws RangeError for an empty batch or sample, or where only some samples have labels */
export function packSamples(samples: readonly Sample[]): PackedArrays {
  if (samples.length === 0) throw new RangeError("nothing to pack");
  const total = samples.reduce((sum, { inputIds }) => sum + inputIds.length, 0);
  const inputIds = new Uint32Array(total);
  const cuSeqlens = new Uint32Array(samples.length + 1);
  const segments = new Uint32Array(2 * total);
  let start = 0;
  samples.forEach((sample, b) => {
    const end = start + sample.inputIds.length;
    if (end === start) throw new RangeError(`sample ${sample.index} has no tokens`);
    inputIds.set(sample.inputIds, start);
    for (let token = start; token < end; token++) {
      segments[2 * token] = start;
      segments[2 * token + 1] = end;
    }
    cuSeqlens[b + 1] = end;
    start = end;
  });
  const labels = samples.flatMap(({ label }) => (label === undefined ? [] : [label]));
  if (labels.length !== 0 && labels.length !== samples.length)
    throw new RangeError("some samples of the batch have labels and some have none");
  return {
    inputIds,
    cuSeqlens,
    segments,
    labels: labels.length === 0 ? undefined : Uint32Array.from(labels),
    sampleIndex: samples.map(({ index }) => index),
  };
}

/** A sample of the step with the row that it was made of. */
export interface StepSample extends Sample {
  readonly row: DataRow;
}
