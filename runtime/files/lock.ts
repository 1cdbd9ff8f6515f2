/**
 * Locks between processes: flock(2) on a file, as huggingface_hub's filelock takes it. The kernel drops it when its holder
 * dies, so no lock is ever stale. Neither Bun nor Node offers flock, hence libc.
 */
import { dlopen } from "bun:ffi";
import { statSync } from "node:fs";
import { dirname } from "node:path";
import { type DiskFile, makeFolder, openToWrite, remove } from "./disk.ts";

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

/**
 * Takes the lock at `path`, waiting for its holder; gives up, unlocked, once `signal` is aborted. The file stays when the lock
 * is let go: another may have opened it, and a new one under its name would have a second holder.
 */
export async function takeLock(path: string, signal: AbortSignal): Promise<Lock> {
  const lock = flock();
  if (lock === null) return { exclusive: false, taken: false, [Symbol.asyncDispose]: async () => {} };
  await makeFolder(dirname(path));
  for (;;) {
    const file = await openToWrite(path, "a");
    try {
      const { exclusive, contended } = await lockFile(file, lock, signal);
      // Somebody removed the file, or put another in its place: its lock would be held beside ours.
      if (!exclusive || (await isAt(file, path))) {
        return { exclusive, taken: contended && !exclusive, [Symbol.asyncDispose]: () => file.close() };
      }
    } catch (error) {
      await file.close();
      throw error;
    }
    await file.close();
  }
}

async function lockFile(
  file: DiskFile,
  lock: Flock,
  signal: AbortSignal,
): Promise<{ readonly exclusive: boolean; readonly contended: boolean }> {
  const take = (): boolean => lock(file.fd, EXCLUSIVE_NOW) === 0;
  let exclusive = take();
  const contended = !exclusive && (await worksAt(`${file.path}.${crypto.randomUUID()}`, lock));
  while (contended && !exclusive && !signal.aborted) {
    await Bun.sleep(POLL);
    exclusive = take();
  }
  return { exclusive, contended };
}

/** Whether `path` names this very file. */
async function isAt(file: DiskFile, path: string): Promise<boolean> {
  return statSync(path, { throwIfNoEntry: false })?.ino === (await file.inode());
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
  let works: boolean;
  {
    await using file = await openToWrite(probe, "a");
    works = lock(file.fd, EXCLUSIVE_NOW) === 0;
  }
  await remove(probe);
  return works;
}
