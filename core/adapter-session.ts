/** A trained adapter on the GPU, its base model placed as the run had it. */
import type { AdapterRun } from "./adapter-run.ts";
import type { RunListener } from "./events.ts";
import { describePlacement } from "./planning/words.ts";
import type { AdapterPlugin, ModelPlacement } from "./plugin.ts";
import { openSession, type Session } from "./session.ts";

/** What of the run is opened. */
export interface AdapterSessionOptions {
  /** Default: the run's. */
  readonly adapter?: AdapterPlugin;
  /** Folder of the adapter's values. */
  readonly values: string;
  /** What lies otherwise than in the run. */
  readonly placement?: Partial<ModelPlacement>;
  readonly onEvent?: RunListener | undefined;
}

/** Opens the GPU that the request names and loads the run's model on it. @throws DeviceError, ModelError */
export async function openAdapterSession(run: AdapterRun, options: AdapterSessionOptions): Promise<Session> {
  const { source, plugin, numLabels, device } = run;
  const { adapter = plugin, values, onEvent } = options;
  const placement = { ...run.placement, ...options.placement };
  // Told where it costs time or memory that nobody asked for here.
  if (run.planned && (placement.embeddings === "host" || placement.keepDequantised)) {
    const message = `memory: ${describePlacement(placement).join(", ")} (as the run was trained, where nothing else is asked for)`;
    onEvent?.({ type: "info", message });
  }
  return openSession({ source, adapter, device, placement, numLabels, seed: 0, initAdapter: values, onEvent });
}
