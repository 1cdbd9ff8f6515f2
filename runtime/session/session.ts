import type { Gpu } from "../../core/device/gpu.ts";
import type { DeviceOptions } from "../config/device-options.ts";
import { memoryBudget } from "../device/budget.ts";
import { openGpu } from "../device/open.ts";
import { rollbackOnError } from "../device/rollback.ts";
import { openFolder } from "../files/folder.ts";
import { checkpointHead } from "./checkpoint-head.ts";
import { loadSession, type LoadOptions, type Session } from "./load.ts";

export type { Session, Warmup } from "./load.ts";

/** What a session is opened with. */
export interface SessionOptions extends Omit<LoadOptions, "initAdapter" | "firstHead"> {
  readonly device: Partial<DeviceOptions>;
  /** An open GPU, which the session takes over; default: one opened as `device` says. */
  readonly gpu?: Gpu | undefined;
  /** Folder of an adapter whose values replace the fresh ones. */
  readonly initAdapter?: string | undefined;
}

/**
 * Opens the GPU, loads the model and puts the adapter on it.
 * @throws DeviceError, ModelError
 */
export async function openSession(options: SessionOptions): Promise<Session> {
  const gpu = options.gpu ?? (await openGpu(options.device));
  try {
    if (options.gpu === undefined) {
      gpu.memory.limit = (await memoryBudget(gpu.info, options.device.memoryBudget)).bytes ?? Infinity;
    }
    return await loadSession(gpu, onThisHost(options), () => gpu.destroy());
  } catch (error) {
    gpu.destroy();
    throw error;
  }
}

/**
 * The same on a GPU that stays open: `Symbol.dispose` frees what the session took of it, and so does a failure, however far
 * a plugin has loaded.
 * @throws as `openSession`
 */
export function openSessionOn(gpu: Gpu, options: Omit<SessionOptions, "device" | "gpu" | "kernels">): Promise<Session> {
  return rollbackOnError(gpu, () => loadSession(gpu, onThisHost(options), () => {}));
}

type HostOptions = Omit<SessionOptions, "device" | "gpu">;

/** Folders are folders on disk, and a head that the checkpoint has is where training starts. */
function onThisHost({ initAdapter, ...options }: HostOptions): LoadOptions {
  const folder = initAdapter === undefined ? undefined : openFolder(initAdapter);
  return { ...options, initAdapter: folder, firstHead: (outline) => checkpointHead(outline, options) };
}
