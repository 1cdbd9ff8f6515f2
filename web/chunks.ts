/** Files in chunks: which bytes a chunk has, and a folder of files that are read from kept chunks. */
import type { ByteSource, Folder } from "../core/formats/bytes.ts";
import { openBlob } from "../runtime/files/sources.ts";
import type { SiteFile, SiteManifest } from "./manifest.ts";

/** One range of a file. */
export interface Chunk {
  /** Path of the file below the page. */
  readonly path: string;
  readonly offset: number;
  readonly length: number;
  readonly sha256: string;
}

/** The chunks of every file, in order. */
export function chunksOf({ files, chunkBytes }: Pick<SiteManifest, "files" | "chunkBytes">): Chunk[] {
  return Object.entries(files).flatMap(([path, { bytes, chunks }]) =>
    chunks.map((sha256, i) => {
      const offset = i * chunkBytes;
      return { path, offset, length: Math.min(chunkBytes, bytes - offset), sha256 };
    }),
  );
}

/** Hex digits of a SHA-256. */
export async function sha256Of(bytes: Uint8Array<ArrayBuffer>): Promise<string> {
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** One file made of kept chunks. */
function openChunks(
  name: string,
  { bytes, chunks }: SiteFile,
  chunkBytes: number,
  blobOf: (sha256: string) => Promise<Blob>,
): ByteSource {
  return {
    name,
    size: bytes,
    async read(offset, length) {
      const end = Math.min(bytes, offset + length);
      const out = new Uint8Array(Math.max(0, end - offset));
      for (let at = offset; at < end;) {
        const index = Math.floor(at / chunkBytes);
        const from = at - index * chunkBytes;
        const piece = Math.min(end - at, chunkBytes - from);
        const source = openBlob(name, await blobOf(chunks[index]!));
        out.set(await source.read(from, piece), at - offset);
        at += piece;
      }
      return out;
    },
    close: async () => {},
  };
}

/** A folder of the page, `model` or `adapter`, whose files are read from kept chunks. */
export function chunkFolder(
  folder: string,
  { files, chunkBytes }: Pick<SiteManifest, "files" | "chunkBytes">,
  blobOf: (sha256: string) => Promise<Blob>,
): Folder {
  const entry = (file: string): SiteFile | undefined => files[`${folder}/${file}`];
  return {
    name: folder,
    has: async (file) => entry(file) !== undefined,
    open: async (file) => {
      const found = entry(file);
      return found && openChunks(`${folder}/${file}`, found, chunkBytes, blobOf);
    },
  };
}

/** The same folder, read from wherever `open` finds its files. */
export function remoteFolder(
  folder: string,
  { files }: Pick<SiteManifest, "files">,
  open: (path: string) => Promise<ByteSource>,
): Folder {
  const has = (file: string): boolean => files[`${folder}/${file}`] !== undefined;
  return {
    name: folder,
    has: async (file) => has(file),
    open: async (file) => (has(file) ? open(`${folder}/${file}`) : undefined),
  };
}
