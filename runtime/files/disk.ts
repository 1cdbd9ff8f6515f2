/**
 * Everything that changes a disk, one system call at a time: nothing else in core/, cli/ or plugins/ writes
 * (tests/layering.test.ts), so that tests can let each call fail in turn.
 */
import { existsSync } from "node:fs";
import {
  type FileHandle,
  link as makeLink,
  lstat,
  mkdir,
  open,
  readdir,
  rename as moveTo,
  rmdir,
  symlink as makeSymlink,
  unlink,
} from "node:fs/promises";
import { join } from "node:path";

/** A system call that changes a disk. */
export type DiskCall = "open" | "write" | "fsync" | "truncate" | "mkdir" | "rename" | "unlink" | "link";

/** Says before each call what it is to fail with; undefined lets it through. A write that fails has written its first half. */
export type Failpoint = (call: DiskCall, path: string) => Error | undefined;

let failpoint: Failpoint | undefined;

/** Lets calls fail, for tests; undefined ends it. */
export function setFailpoint(next: Failpoint | undefined): void {
  failpoint = next;
}

function reach(call: DiskCall, path: string): void {
  const failure = failpoint?.(call, path);
  if (failure !== undefined) throw failure;
}

/** Bytes of one write call. */
const WRITE_BYTES = 1 << 28;

/** A file open for writing. */
export class DiskFile implements AsyncDisposable {
  readonly path: string;
  readonly #handle: FileHandle;

  constructor(path: string, handle: FileHandle) {
    this.path = path;
    this.#handle = handle;
  }

  get fd(): number {
    return this.#handle.fd;
  }

  /** Writes all of a piece, which a single call need not do. */
  async write(piece: Uint8Array): Promise<void> {
    const failure = failpoint?.("write", this.path);
    const end = failure === undefined ? piece.byteLength : piece.byteLength >> 1;
    for (let done = 0; done < end;) {
      done += (await this.#handle.write(piece, done, Math.min(end - done, WRITE_BYTES))).bytesWritten;
    }
    if (failure !== undefined) throw failure;
  }

  async read(target: Uint8Array, position: number): Promise<number> {
    return (await this.#handle.read(target, 0, target.byteLength, position)).bytesRead;
  }

  async size(): Promise<number> {
    return (await this.#handle.stat()).size;
  }

  /** Number of the file on its disk, whatever its name. */
  async inode(): Promise<number> {
    return (await this.#handle.stat()).ino;
  }

  async truncate(bytes: number): Promise<void> {
    reach("truncate", this.path);
    await this.#handle.truncate(bytes);
  }

  /** Makes what was written outlast a loss of power. */
  async sync(): Promise<void> {
    reach("fsync", this.path);
    await this.#handle.sync();
  }

  close(): Promise<void> {
    return this.#handle.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

/** Opens a file to write it: anew, to append ("a", "a+" to read too), as a file that must be new ("wx"), or as it is ("r+"). */
export async function openToWrite(path: string, flags: "w" | "wx" | "a" | "a+" | "r+"): Promise<DiskFile> {
  reach("open", path);
  return new DiskFile(path, await open(path, flags));
}

/** Makes a folder and those above it. */
export async function makeFolder(path: string): Promise<void> {
  if (existsSync(path)) return void (await mkdir(path, { recursive: true })); // a file there is an error
  reach("mkdir", path);
  await mkdir(path, { recursive: true });
}

export async function rename(from: string, to: string): Promise<void> {
  reach("rename", to);
  await moveTo(from, to);
}

/** Removes a file, or a folder with all that it holds; nothing there is fine. */
export async function remove(path: string): Promise<void> {
  const found = await lstat(path).catch(ifMissing);
  if (found === undefined) return;
  if (found.isDirectory()) {
    for (const name of await readdir(path)) await remove(join(path, name));
    reach("unlink", path);
    await rmdir(path);
  } else {
    reach("unlink", path);
    await unlink(path).catch(ifMissing);
  }
}

/** Makes `path` a symbolic link to `target`. */
export async function symlink(target: string, path: string): Promise<void> {
  reach("link", path);
  await makeSymlink(target, path);
}

/** Gives a file a second name. */
export async function hardlink(file: string, path: string): Promise<void> {
  reach("link", path);
  await makeLink(file, path);
}

/** Makes what is in a file outlast a loss of power. */
export async function syncFile(path: string): Promise<void> {
  await sync(path, "r+");
}

/** Makes names in a folder outlast a loss of power; Windows cannot open folders and needs no such step. */
export async function syncFolder(path: string): Promise<void> {
  if (process.platform !== "win32") await sync(path, "r");
}

async function sync(path: string, flags: "r" | "r+"): Promise<void> {
  reach("fsync", path);
  const handle = await open(path, flags);
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

function ifMissing(error: NodeJS.ErrnoException): undefined {
  if (error.code !== "ENOENT") throw error;
}
