/**
 * Writes that are whole or not there at all: aside, fsynced, renamed. A process killed at any moment leaves the old
 * file or folder, or the new one, and at worst a `.tmp-<pid>` beside it that the next save removes.
 */
import { constants, existsSync, statSync } from "node:fs";
import { access, readdir } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { QloraError } from "../../core/errors.ts";
import { makeFolder, openToWrite, remove, rename, syncFile, syncFolder } from "./disk.ts";

/** Temporary paths that this process is writing now. */
const active = new Set<string>();
let counter = 0;

const GATHERED_BYTES = 1 << 20;

/** Bytes, text, or pieces of bytes that come one after another. */
export type FileContent = Uint8Array | string | AsyncIterable<Uint8Array>;

/**
 * Writes a file whole or not at all; makes the folders above it.
 * @throws QloraError DISK_FULL, FILE_NOT_WRITABLE or FILE_WRITE_FAILED naming the path
 */
export async function writeFileAtomic(path: string, content: FileContent): Promise<void> {
  await explainWriteErrors(path, async () => {
    await makeFolder(dirname(path));
    await removeLeftovers(path);
    await aside(path, async (temporary) => {
      {
        await using file = await openToWrite(temporary, "w");
        for await (const piece of gathered(piecesOf(content))) await file.write(piece);
        await file.sync();
      }
      await rename(temporary, path);
    });
    await syncFolder(dirname(path));
  });
}

/**
 * Finds out before long work whether a file could be written at its end; writes nothing.
 * @throws QloraError FILE_NOT_WRITABLE or FILE_WRITE_FAILED naming the path
 */
export async function checkWritable(path: string): Promise<void> {
  await explainWriteErrors(path, async () => {
    if (statSync(path, { throwIfNoEntry: false })?.isDirectory() === true) {
      throw new QloraError("FILE_WRITE_FAILED", `${path}: is a folder, expected the name of a file`, {
        hint: `For example ${join(path, "predictions.csv")}.`,
      });
    }
    let folder = dirname(path);
    while (!existsSync(folder)) folder = dirname(folder);
    await access(folder, constants.W_OK);
  });
}

/**
 * Writes a folder whole or not at all: `write` fills a temporary folder, its files are fsynced, then it takes the
 * place of `path`. A folder that was there before stands until the new one is complete.
 * @throws QloraError DISK_FULL, FILE_NOT_WRITABLE or FILE_WRITE_FAILED naming the path; whatever `write` throws
 */
export async function writeFolderAtomic(path: string, write: (dir: string) => Promise<void>): Promise<void> {
  await explainWriteErrors(path, async () => {
    await makeFolder(dirname(path));
    await removeLeftovers(path);
    await aside(path, async (temporary) => {
      await makeFolder(temporary);
      await write(temporary);
      await syncTree(temporary);
      if (!existsSync(path)) return rename(temporary, path);
      const old = `${path}.old-${process.pid}`;
      active.add(old);
      try {
        await rename(path, old);
        await rename(temporary, path).catch(async (error: unknown) => {
          await rename(old, path);
          throw error;
        });
        await remove(old);
      } finally {
        active.delete(old);
      }
    });
    await syncFolder(dirname(path));
  });
}

/**
 * Removes what dead writers of `path`, or of its siblings that differ in their trailing number only
 * (`checkpoint-10`, `checkpoint-20`), left behind; puts a folder back that died between its two renames.
 */
export async function removeLeftovers(path: string): Promise<void> {
  const folder = dirname(path);
  if (!existsSync(folder)) return;
  const stem = basename(path).replace(/\d+$/, "");
  for (const name of await readdir(folder)) {
    const match = /^(.*)\.(tmp|old)-(\d+)(?:-\d+)?$/.exec(name);
    if (match === null) continue;
    const [, target, kind, pid] = match as unknown as [string, string, string, string];
    const leftover = join(folder, name);
    if (target.replace(/\d+$/, "") !== stem || active.has(leftover) || isAlive(Number(pid))) continue;
    if (kind === "old" && !existsSync(join(folder, target))) await rename(leftover, join(folder, target));
    else await remove(leftover);
  }
}

/** Runs `write` with a temporary path beside `path`; on failure nothing of it remains. */
async function aside(path: string, write: (temporary: string) => Promise<void>): Promise<void> {
  const temporary = `${path}.tmp-${process.pid}${active.has(`${path}.tmp-${process.pid}`) ? `-${++counter}` : ""}`;
  active.add(temporary);
  try {
    await write(temporary);
  } catch (error) {
    await remove(temporary);
    throw error;
  } finally {
    active.delete(temporary);
  }
}

/** Our own process counts as dead here: what it writes now is in `active`. */
function isAlive(pid: number): boolean {
  if (pid === process.pid) return false;
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return errorCode(error) !== "ESRCH";
  }
}

async function* piecesOf(content: FileContent): AsyncGenerator<Uint8Array> {
  if (typeof content === "string") yield Buffer.from(content, "utf8");
  else if (content instanceof Uint8Array) yield content;
  else yield* content;
}

/** Small pieces together: a file of many small tensors is not as many system calls. */
async function* gathered(pieces: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  let held: Uint8Array[] = [];
  let bytes = 0;
  for await (const piece of pieces) {
    if (piece.byteLength >= GATHERED_BYTES || bytes + piece.byteLength > GATHERED_BYTES) {
      if (bytes > 0) yield Buffer.concat(held);
      [held, bytes] = [[], 0];
    }
    if (piece.byteLength >= GATHERED_BYTES) yield piece;
    else {
      held.push(piece.slice()); // its owner may refill it
      bytes += piece.byteLength;
    }
  }
  if (bytes > 0) yield Buffer.concat(held);
}

async function syncTree(dir: string): Promise<void> {
  for (const entry of await readdir(dir, { withFileTypes: true })) {
    const path = join(dir, entry.name);
    if (entry.isDirectory()) await syncTree(path);
    else if (entry.isFile()) await syncFile(path);
  }
  await syncFolder(dir);
}

/** Turns the operating system's refusal into one error that says what to do. */
export async function explainWriteErrors<T>(path: string, write: () => Promise<T>): Promise<T> {
  try {
    return await write();
  } catch (error) {
    const code = errorCode(error);
    if (error instanceof QloraError || code === undefined) throw error;
    if (["ENOSPC", "EDQUOT", "EFBIG"].includes(code)) {
      throw new QloraError("DISK_FULL", `${path}: no space left to write it (${code})`, {
        hint: "Free some space, or point the output to another disk; nothing that was there before has been lost.",
        cause: error,
      });
    }
    if (["EACCES", "EPERM", "EROFS"].includes(code)) {
      throw new QloraError("FILE_NOT_WRITABLE", `${path}: not allowed to write it (${code})`, {
        hint: "Check the owner and the permissions of the folder, or choose another output folder.",
        cause: error,
      });
    }
    throw new QloraError("FILE_WRITE_FAILED", `${path}: could not be written (${(error as Error).message})`, {
      hint: "Check that the path is right and that the folders above it are folders.",
      cause: error,
    });
  }
}

function errorCode(error: unknown): string | undefined {
  const code = error instanceof Error ? (error as NodeJS.ErrnoException).code : undefined;
  return typeof code === "string" && /^E[A-Z0-9]+$/.test(code) ? code : undefined;
}
