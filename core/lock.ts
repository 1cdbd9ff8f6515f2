/**
 * Locks between processes: flock(2) on a file, as huggingface_hub's filelock takes it. The kernel drops it when its holder
 * dies, so no lock is ever stale. Neither Bun nor Node offers flock, hence libc.
 */
import { dlopen } from "bun:ffi";
import { mkdir, open, rm } from "node:fs/promises";
import { dirname } from "node:path";

const LIBRARIES = ["libc.so.6", "libc.so", "libSystem.B.dylib"];
const EXCLUSIVE_NOW = 2 | 4; // LOCK_EX | LOCK_NB
const POLL = 100;

type Flock = (descriptor: number, operation: number) => number;

let found: Flock | null | undefined;

/** libc's flock, or null where there is none (Windows). */
function flock(): Flock | null {
  if (found !== undefined) return found;
  found = null;
  for (const library of LIBRARIES) {
    try {
      found = dlopen(library, { flock: { args: ["i32", "i32"], returns: "i32" } }).symbols.flock;
      break;
    } catch {
      continue; // libc has another name here
    }
  }
  return found;
}

/** A held lock; `exclusive` is false where this machine or the file system offers none. */
export interface Lock extends AsyncDisposable {
  readonly exclusive: boolean;
  /** True where somebody else holds it still. */
  readonly taken: boolean;
}

/** Takes the lock at `path`, waiting for its holder; gives up, unlocked, once `signal` is aborted. */
export async function takeLock(path: string, signal: AbortSignal): Promise<Lock> {
  const lock = flock();
  if (lock === null) return { exclusive: false, taken: false, [Symbol.asyncDispose]: async () => {} };
  await mkdir(dirname(path), { recursive: true });
  const file = await open(path, "a");
  const take = (): boolean => lock(file.fd, EXCLUSIVE_NOW) === 0;
  let exclusive = take();
  const contended = !exclusive && (await worksAt(`${path}.${crypto.randomUUID()}`, lock));
  while (contended && !exclusive && !signal.aborted) {
    await Bun.sleep(POLL);
    exclusive = take();
  }
  return { exclusive, taken: contended && !exclusive, [Symbol.asyncDispose]: () => file.close() };
}

/** Takes the lock at `path` at once; undefined where another holds it. */
export async function tryLock(path: string): Promise<Lock | undefined> {
  const lock = await takeLock(path, AbortSignal.abort());
  if (!lock.taken) return lock;
  await lock[Symbol.asyncDispose]();
  return undefined;
}

/** Some network file systems refuse every lock; waiting for one there would never end. */
async function worksAt(probe: string, lock: Flock): Promise<boolean> {
  const file = await open(probe, "a");
  const works = lock(file.fd, EXCLUSIVE_NOW) === 0;
  await file.close();
  await rm(probe, { force: true });
  return works;
}
