/** Core's byte sources on this host: files on disk. */
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
