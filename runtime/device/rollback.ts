import { AsyncLocalStorage } from "node:async_hooks";
import type { Gpu } from "../../core/device/gpu.ts";

/** What frees the allocations of the work that the current call is part of. */
const made = new AsyncLocalStorage<(() => void)[]>();

/**
 * Runs `work`. Where it throws, what it allocated on the GPU and still holds is given back; what others allocate meanwhile,
 * on the same GPU, stays.
 */
export async function rollbackOnError<T>({ memory }: Gpu, work: () => Promise<T>): Promise<T> {
  memory.onAlloc = (release) => void made.getStore()?.push(release);
  const releases: (() => void)[] = [];
  try {
    return await made.run(releases, work);
  } catch (error) {
    for (const release of releases) release();
    throw error;
  }
}
