/** Core's byte sources on this host: files on disk, addresses that answer ranges, Blobs. */
import { existsSync } from "node:fs";
import { open } from "node:fs/promises";
import { basename, dirname, join, normalize } from "node:path";
import { type ByteSource, type FilesToWrite, type Folder, type Host, isFileName } from "../../core/formats/bytes.ts";
import {
  openSafetensors as openIn,
  type SafetensorsFile,
  safetensorsBytes,
  type TensorToWrite,
} from "../../core/formats/safetensors.ts";
import { writeFileAtomic } from "./files.ts";

/** A file on disk; undefined where there is none. @throws what the system says of a file that cannot be opened */
async function openFile(path: string): Promise<ByteSource | undefined> {
  const file = await open(path, "r").catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT" || error.code === "ENOTDIR") return undefined;
    throw error;
  });
  if (file === undefined) return undefined;
  const stat = await file.stat();
  if (!stat.isFile()) {
    await file.close();
    throw new Error("it is not a file");
  }
  const readInto = async (offset: number, target: Uint8Array): Promise<number> =>
    (await file.read(target, 0, target.byteLength, offset)).bytesRead;
  return {
    name: path,
    size: stat.size,
    readInto,
    async read(offset, length) {
      const bytes = new Uint8Array(length);
      return bytes.subarray(0, await readInto(offset, bytes));
    },
    close: () => file.close(),
  };
}

/** A folder on disk. */
export function openFolder(path: string): Folder {
  const name = normalize(path).replace(/(?<=.)\/$/, "");
  return {
    name,
    has: async (file) => existsSync(join(name, file)),
    open: (file) => openFile(join(name, file)),
  };
}

/** This machine, for models: checkpoints are folders on disk. */
export const fileHost: Host = { openFolder };

/**
 * Writes the files that an adapter saved, each whole or not at all, in their order.
 * @throws QloraError where one cannot be written
 */
export async function writeFiles(directory: string, files: FilesToWrite): Promise<void> {
  for (const [file, content] of files) {
    if (!isFileName(file)) throw new RangeError(`${JSON.stringify(file)}: expected the name of a file`);
    await writeFileAtomic(join(directory, file), content);
  }
}

/** A safetensors file on disk. @throws ModelError as `openSafetensors` of core */
export const openSafetensors = (path: string): Promise<SafetensorsFile> =>
  openIn(openFolder(dirname(path)), basename(path));

/** Writes a safetensors file, whole or not at all. @throws RangeError as `safetensorsBytes`; QloraError where it cannot be written */
export async function writeSafetensors(
  path: string,
  tensors: Iterable<readonly [string, TensorToWrite]>,
  metadata?: Readonly<Record<string, string>>,
): Promise<void> {
  return writeFileAtomic(path, safetensorsBytes(tensors, metadata));
}

/**
 * Bytes behind an address, read by ranges.
 * @throws Error where it does not answer, or gives the whole file for a range
 */
export async function openAddress(url: string, ask: typeof fetch = fetch): Promise<ByteSource> {
  const range = async (from: number, to: number): Promise<Response> => {
    const response = await ask(url, { headers: { range: `bytes=${from}-${to}` } });
    if (response.status === 206) return response;
    await response.body?.cancel();
    throw new Error(`${url}: asked for bytes ${from} to ${to}, got status ${response.status}, expected 206`);
  };
  const first = await range(0, 0);
  await first.body?.cancel();
  const size = Number(/\/(\d+)$/.exec(first.headers.get("content-range") ?? "")?.[1]);
  if (!Number.isSafeInteger(size)) throw new Error(`${url}: its content-range does not say how long it is`);
  return {
    name: url,
    size,
    async read(offset, length) {
      const end = Math.min(size, offset + length);
      if (end <= offset) return new Uint8Array(0);
      return new Uint8Array(await (await range(offset, end - 1)).arrayBuffer());
    },
    close: async () => {},
  };
}

/** A Blob's bytes: a file that a page's visitor chose, or one kept in the browser. */
export function openBlob(name: string, blob: Blob): ByteSource {
  return {
    name,
    size: blob.size,
    read: async (offset, length) => new Uint8Array(await blob.slice(offset, offset + length).arrayBuffer()),
    close: async () => {},
  };
}
