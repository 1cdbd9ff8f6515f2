import { benchOptions } from "../core/bench-options.ts";
import type { BenchResult } from "../core/bench.ts";
import { deviceOptions } from "../core/device-options.ts";
import type { CommandData } from "./command.ts";
import { columns, notes, writeData, writeJson } from "./output.ts";
import { createProgress } from "./progress.ts";

/** Times steps and prints the figures; with --profile the time of every kernel. */
export async function bench({ services, values }: CommandData, json: boolean): Promise<void> {
  const options = benchOptions.parse(values["bench"] ?? {}, "bench");
  const device = deviceOptions.parse(values["device"] ?? {}, "device");
  const sdk = await services.sdk();
  const progress = createProgress();
  const result = await sdk.bench({ ...options, device }, { onEvent: progress.listen });
  progress.end();
  if (result === undefined) notes.info(`wrote ${options.writeCheckpoint}`);
  else if (json) await writeJson(result);
  else await writeData(benchText(result));
}

function benchText(result: BenchResult): string {
  const gib = (bytes: number): string => `${(bytes / 2 ** 30).toFixed(2)} GiB`;
  const head = columns([
    ["device", `${result.device}, tier ${result.tier}`],
    ["samples/s", result.samplesPerSecond.toFixed(3)],
    ["tokens/s", result.tokensPerSecond.toFixed(1)],
    ["seconds per step", result.secondsPerStep.toFixed(4)],
    ["to first step", `${result.secondsToFirstStep.toFixed(1)} s (loading ${result.loadSeconds.toFixed(1)} s)`],
    ["peak GPU memory", gib(result.peakBytes)],
    ["growth while timed", `GPU ${gib(result.gpuGrowthBytes)}, host ${gib(result.hostGrowthBytes)}`],
    ["step time spread", spread(result.stepSeconds)],
    ["last loss", `${result.lastLoss.toFixed(4)}, ${result.skipped} steps skipped`],
  ]);
  if (result.profile.length === 0) return head;
  const total = result.profile.reduce((sum, line) => sum + line.ms, 0);
  const rows = result.profile.map(({ key, calls, ms, rate }) => [
    key,
    String(calls),
    ms.toFixed(2),
    `${((100 * ms) / total).toFixed(1)} %`,
    rate ?? "",
  ]);
  return `${head}\n${columns([["kernel", "calls", "ms", "share", "rate"], ...rows], [false, true, true, true, true])}total ${total.toFixed(1)} ms\n`;
}

/** Fastest and slowest step against the median. */
function spread(seconds: readonly number[]): string {
  const sorted = seconds.toSorted((a, b) => a - b);
  const median = sorted[Math.floor(sorted.length / 2)]!;
  const percent = (value: number): string => `${((100 * value) / median - 100).toFixed(1)} %`;
  return `${percent(sorted[0]!)} to +${percent(sorted.at(-1)!)}`;
}
