import type { ProfileLine } from "../../core/device/profile.ts";
import { formatGib } from "../../core/util/byte-size.ts";

import type { BenchResult } from "../../sdk/bench-steps.ts";
import type { CommandData } from "../command.ts";
import { columns, notes, writeData, writeJson } from "../output.ts";
import { createProgress } from "../progress.ts";

/** Times steps and prints the figures; with --profile the time of every kernel. */
export async function bench({ services, values }: CommandData, json: boolean): Promise<void> {
  const { bench: options = {}, device } = values;
  const sdk = await services.sdk();
  const progress = createProgress();
  const result = await sdk.bench({ ...options, device }, { onEvent: progress.listen }).finally(progress.end);
  if (result === undefined) notes.info(`wrote ${String(options["writeCheckpoint"])}`);
  else if (json) await writeJson(result);
  else await writeData(benchText(result));
}

function benchText(result: BenchResult): string {
  const head = columns([
    ["device", `${result.device}, tier ${result.tier}`],
    ...(result.ranks === undefined ? [] : [["ranks", ranksText(result.ranks)]]),
    ["samples/s", result.samplesPerSecond.toFixed(3)],
    ["tokens/s", result.tokensPerSecond.toFixed(1)],
    ["seconds per step", result.secondsPerStep.toFixed(4)],
    ["to first step", `${result.secondsToFirstStep.toFixed(1)} s (loading ${result.loadSeconds.toFixed(1)} s)`],
    ["peak GPU memory", formatGib(result.peakBytes)],
    ...(result.plan === undefined ? [] : [["planned", formatGib(result.plan.peakBytes)]]),
    ["growth while timed", `GPU ${formatGib(result.gpuGrowthBytes)}, host ${formatGib(result.hostGrowthBytes)}`],
    ["step time spread", spread(result.stepSeconds)],
    ["last loss", `${result.lastLoss.toFixed(4)}, ${result.skipped} steps skipped`],
  ]);
  if (result.profile.length === 0) return head;
  const total = result.profile.reduce((sum, line) => sum + line.ms, 0);
  const roofline = result.roofline!;
  const rows = result.profile.map((line) => [
    line.key,
    String(line.calls),
    line.ms.toFixed(2),
    `${((100 * line.ms) / total).toFixed(1)} %`,
    ...rateColumns(line, roofline),
  ]);
  const table = columns(
    [["kernel", "calls", "ms", "share", "rate", "of ceiling"], ...rows],
    [false, true, true, true, true, true],
  );
  const limits = `${flops(roofline.flopsPerSecond)} in products, ${bandwidth(roofline.bytesPerSecond)} in a copy`;
  return `${head}\n${table}total ${total.toFixed(1)} ms; roofline, measured: ${limits}\n`;
}

function ranksText(ranks: NonNullable<BenchResult["ranks"]>): string {
  const waits = Object.entries(ranks).flatMap(([key, share]) => (key.endsWith("_waiting") ? [share] : []));
  const percent = (share: number): string => `${(100 * share).toFixed(1)} %`;
  const communication = percent(ranks["communication"]!);
  return `${waits.length}; ${communication} of the time for sums that nothing hides, at most ${percent(Math.max(...waits))} waiting for others`;
}

const flops = (perSecond: number): string =>
  perSecond >= 1e12 ? `${(perSecond / 1e12).toFixed(1)} TFLOP/s` : `${(perSecond / 1e9).toFixed(2)} GFLOP/s`;
const bandwidth = (perSecond: number): string => `${(perSecond / 1e9).toPrecision(3)} GB/s`;

/** A kernel's rate, and its share of the ceiling that is nearer. */
function rateColumns(
  { ms, flops: count, bytes }: ProfileLine,
  roofline: NonNullable<BenchResult["roofline"]>,
): [string, string] {
  if (ms === 0) return ["", ""];
  const [arithmetic, memory] = [(count * 1000) / ms, (bytes * 1000) / ms];
  const shares = [arithmetic / roofline.flopsPerSecond, memory / roofline.bytesPerSecond] as const;
  const percent = (share: number): string => `${(100 * share).toFixed(0)} %`;
  return shares[0] > shares[1] ? [flops(arithmetic), percent(shares[0])] : [bandwidth(memory), percent(shares[1])];
}

/** Fastest and slowest step against the median. */
function spread(seconds: readonly number[]): string {
  const sorted = seconds.toSorted((a, b) => a - b);
  const half = sorted.length / 2;
  const median = (sorted[Math.ceil(half) - 1]! + sorted[Math.floor(half)]!) / 2;
  const percent = (value: number): string => `${((100 * value) / median - 100).toFixed(1)} %`;
  return `${percent(sorted[0]!)} to +${percent(sorted.at(-1)!)}`;
}
