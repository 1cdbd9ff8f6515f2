/** A trained adapter on the GPU: its base model placed as the run had it where that fits, else as the GPU has room. */
import { formatBytes } from "../../core/util/byte-size.ts";
import type { TokenizedDataset } from "../data/dataset-tokenizer.ts";
import type { PackLimits } from "../data/pack.ts";
import { openRankDevice } from "../device/rank-device.ts";
import { alone, type World } from "../distributed/world.ts";
import type { RunListener } from "../events.ts";
import { describeInference } from "../planning/format.ts";
import { KernelWarmup } from "../planning/kernel-warmup.ts";
import { openPlanned } from "../planning/open.ts";
import type { MemorySettings, MemoryPlan } from "../planning/settings.ts";
import { forwardBatches } from "../planning/upcoming-batches.ts";
import { openSession, type Session } from "../session/session.ts";
import type { AdapterRun } from "./adapter-run.ts";

/** So many times the rows share a batch where they are short, within the tokens that the plan counts on. */
const SHORT_ROWS = 8;

/** What of the run is opened. */
export interface AdapterSessionOptions {
  /** Folder of the adapter's values. */
  readonly values: string;
  /** Most tokens of a sample. */
  readonly maxLength: number;
  /** What will be run, in turn. */
  readonly data: readonly TokenizedDataset[];
  readonly onEvent?: RunListener | undefined;
  /** Ranks that the batches are dealt to. */
  readonly world?: World | undefined;
}

/** A session, and what was planned for it. */
export interface AdapterSession {
  readonly session: Session;
  readonly settings: MemorySettings;
  /** Of a batch. */
  readonly limits: PackLimits;
}

/**
 * Opens the GPU that the request names, plans the forward passes and loads the run's model. Free the session.
 * @throws ModelError; DeviceError, MEMORY_SHORT where nothing fits that the request leaves open
 */
export async function openAdapterSession(
  run: AdapterRun,
  { values, maxLength, data, onEvent, world = alone }: AdapterSessionOptions,
): Promise<AdapterSession> {
  const { source, plugin, numLabels, device, given, maxSamples, allowNonFinite } = run;
  const evaluation = { maxSamples, longest: maxLength };
  const work = { source, adapter: plugin, numLabels, evaluation };
  const favored = { settings: run.settings, reason: "as the run was trained, where nothing else is asked for" };
  const rankDevice = await openRankDevice(device.device, world);
  const planned = await openPlanned({ device, mode: "auto", given, favored, work });
  const { gpu, plan } = planned;
  await rankDevice.check(gpu.info);
  const message = memoryMessage(run, plan);
  if (message !== undefined) onEvent?.({ type: "info", message });
  const { settings } = plan;
  const limits = run.packsShortRows
    ? {
        maxTokens: Math.min(settings.tokenBudget ?? Infinity, maxSamples * maxLength),
        maxSamples: maxSamples * SHORT_ROWS,
      }
    : { maxTokens: settings.tokenBudget ?? Infinity, maxSamples };
  const kernels = new KernelWarmup(planned, forwardBatches(data, limits, world), onEvent);
  const options = { source, adapter: plugin, device, gpu, kernels, numLabels, seed: 0, initAdapter: values, onEvent };
  const session = await openSession({ ...options, allowNonFinite, placement: settings });
  return { session, settings, limits };
}

/** The line about a plan, where it differs from the run's, or costs time or memory that was not requested here. */
function memoryMessage(run: AdapterRun, { settings, figures, budget, reason }: MemoryPlan): string | undefined {
  const words = `memory: ${describeInference(settings)}`;
  if (settings !== run.settings) {
    const own = run.planned ? "what the run had" : describeInference(run.settings);
    const room = budget.bytes === undefined ? "" : ` of ${formatBytes(budget.bytes)}`;
    return `${words} (${own} does not fit); at most ${formatBytes(figures.peak)}${room}`;
  }
  const costs = settings.embeddings === "host" || settings.keepDequantized;
  return run.planned && costs ? `${words} (${reason})` : undefined;
}
