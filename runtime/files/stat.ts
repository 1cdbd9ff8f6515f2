/** What is at a path, and what it holds. */
import { createHash } from "node:crypto";
import { createReadStream, statSync } from "node:fs";

/** Codes that say that nothing can be at a path: also of names that no file system takes. */
const NOTHING_THERE = ["ENOENT", "ENOTDIR", "ENAMETOOLONG", "ERR_INVALID_ARG_VALUE"];

/** Whether a folder is at the path. @throws what the system says of a path that may not be looked at */
export function isFolder(path: string): boolean {
  try {
    return statSync(path, { throwIfNoEntry: false })?.isDirectory() === true;
  } catch (error) {
    if (NOTHING_THERE.includes((error as NodeJS.ErrnoException).code ?? "")) return false;
    throw error;
  }
}

/** Size and sha256 (hex) of a file's content. */
export interface FileDigest {
  readonly bytes: number;
  readonly sha256: string;
}

/** Reads the whole file. @throws what the system says of one that cannot be read */
export async function digestFile(path: string): Promise<FileDigest> {
  const hash = createHash("sha256");
  let bytes = 0;
  for await (const piece of createReadStream(path)) {
    hash.update(piece as Buffer);
    bytes += (piece as Buffer).byteLength;
  }
  return { bytes, sha256: hash.digest("hex") };
}
