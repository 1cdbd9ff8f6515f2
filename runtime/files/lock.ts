/**
 * Locks between processes: flock(2) on a file, as huggingface_hub's filelock takes it. The kernel drops it when its holder
 * dies, so no lock is ever stale. No runtime offers flock, hence libc, which Bun and Deno can call.
 */
import { statSync } from "node:fs";
import { dirname } from "node:path";
import { setTimeout } from "node:timers/promises";
import { hostName } from "../host.ts";
import { type DiskFile, makeFolder, openToWrite, remove } from "./disk.ts";

const LIBRARIES = ["libc.so.6", "libc.so", "libSystem.B.dylib"];
const EXCLUSIVE_NOW = 2 | 4; // LOCK_EX | LOCK_NB
const POLL = 100;

type Flock = (descriptor: number, operation: number) => number;

let found: Promise<Flock | null> | undefined;

/** libc's flock, or null where there is none (Windows) or where it cannot be called (Node). */
const flock = (): Promise<Flock | null> => (found ??= findFlock());

async function findFlock(): Promise<Flock | null> {
  const open = await opener();
  for (const library of open === undefined ? [] : LIBRARIES) {
    try {
      return open!(library);
    } catch {
      continue; // libc has another name here
    }
  }
  return null;
}

interface DenoFfi {
  dlopen(
    library: string,
    symbols: { readonly flock: { readonly parameters: readonly string[]; readonly result: string } },
  ): { readonly symbols: { readonly flock: Flock } };
}

/** What opens a library and finds flock in it; undefined where the runtime calls no libraries. */
async function opener(): Promise<((library: string) => Flock) | undefined> {
  if (hostName === "bun") {
    const { dlopen } = await import("bun:ffi");
    return (library) => dlopen(library, { flock: { args: ["i32", "i32"], returns: "i32" } }).symbols.flock;
  }
  if (hostName === "node") return undefined;
  const { Deno } = globalThis as unknown as { readonly Deno: DenoFfi };
  return (library) => Deno.dlopen(library, { flock: { parameters: ["i32", "i32"], result: "i32" } }).symbols.flock;
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
  const lock = await flock();
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
    await setTimeout(POLL);
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
