/** Chunks that a browser keeps: in the page's private file system, by their digests, so that judges on one base share it. */
import { QloraError } from "../../core/errors.ts";
import type { ByteSource } from "../../core/formats/bytes.ts";
import { openAddress } from "../../runtime/files/sources.ts";
import { type Chunk, sha256Of } from "../chunks.ts";

const FOLDER = "qlora-chunks";
/** Ranges that are asked for at once. */
const LANES = 3;
const TRIES = 3;
const WAIT_MS = 500;

/** Where chunks are kept. */
export interface ChunkStore {
  /** Why they are gone with the page; undefined where they stay. */
  readonly gone: string | undefined;
  has(chunk: Chunk): Promise<boolean>;
  blob(sha256: string): Promise<Blob>;
  keep(chunk: Chunk, bytes: Uint8Array<ArrayBuffer>): Promise<void>;
  /** Removes all of them. */
  clear(): Promise<void>;
}

/** The browser's private file system, else this page's memory. */
export async function openStore(): Promise<ChunkStore> {
  try {
    const root = await navigator.storage.getDirectory();
    const folder = await root.getDirectoryHandle(FOLDER, { create: true });
    return fileStore(root, folder);
  } catch (cause) {
    return memoryStore(`this browser keeps no files for pages (${(cause as Error).message})`);
  }
}

function fileStore(root: FileSystemDirectoryHandle, folder: FileSystemDirectoryHandle): ChunkStore {
  const file = async (sha256: string): Promise<File> => (await folder.getFileHandle(sha256)).getFile();
  return {
    gone: undefined,
    // A chunk is written aside and takes its place whole, so its length tells that it is there.
    has: async ({ sha256, length }) => file(sha256).then(({ size }) => size === length, isMissing),
    blob: file,
    keep: async ({ sha256 }, bytes) => {
      const writable = await (await folder.getFileHandle(sha256, { create: true })).createWritable();
      try {
        await writable.write(bytes);
        await writable.close();
      } catch (cause) {
        throw new QloraError("STORAGE_FULL", `the browser's storage took no more: ${(cause as Error).message}`, {
          hint: "Free room on the disk, or remove what other pages keep, in the browser's settings.",
          cause,
        });
      }
    },
    clear: () => root.removeEntry(FOLDER, { recursive: true }),
  };
}

function isMissing(error: unknown): false {
  if (error instanceof DOMException && error.name === "NotFoundError") return false;
  throw error;
}

function memoryStore(gone: string): ChunkStore {
  const blobs = new Map<string, Blob>();
  return {
    gone,
    has: async ({ sha256 }) => blobs.has(sha256),
    blob: async (sha256) => blobs.get(sha256)!,
    keep: async ({ sha256 }, bytes) => void blobs.set(sha256, new Blob([bytes])),
    clear: async () => blobs.clear(),
  };
}

/** Chunks that are not here yet. */
export async function missingChunks(store: ChunkStore, chunks: readonly Chunk[]): Promise<Chunk[]> {
  const here = await Promise.all(chunks.map((chunk) => store.has(chunk)));
  return chunks.filter((_, i) => here[i] !== true);
}

/**
 * Downloads chunks by HTTP ranges, each checked by its digest before it is kept.
 * @throws QloraError where an address answers with other bytes, or not at all after some tries
 */
export async function downloadChunks(
  store: ChunkStore,
  chunks: readonly Chunk[],
  addressOf: (path: string) => string,
  onBytes: (bytes: number) => void,
): Promise<void> {
  const waiting = [...chunks];
  const failed = new AbortController();
  const sources = new Map<string, Promise<ByteSource>>();
  const open = (path: string): Promise<ByteSource> => {
    const source = sources.get(path) ?? openAddress(addressOf(path), uncached);
    sources.set(path, source);
    source.catch(() => sources.delete(path)); // the next try asks again
    return source;
  };
  const lane = async (): Promise<void> => {
    for (let chunk = waiting.shift(); chunk !== undefined && !failed.signal.aborted; chunk = waiting.shift()) {
      await store.keep(chunk, await fetchChunk(chunk, open));
      onBytes(chunk.length);
    }
  };
  await Promise.all(
    Array.from({ length: LANES }, () =>
      lane().catch((error: unknown) => {
        failed.abort();
        throw error;
      }),
    ),
  );
}

async function fetchChunk(chunk: Chunk, open: (path: string) => Promise<ByteSource>): Promise<Uint8Array<ArrayBuffer>> {
  const { path, offset, length } = chunk;
  for (let tried = 1; ; tried++) {
    try {
      const bytes = await (await open(path)).read(offset, length);
      if (bytes.byteLength === length && (await sha256Of(bytes)) === chunk.sha256) return bytes;
      throw new Error(
        `${path}: ${bytes.byteLength} bytes from ${offset} on are not those that the page was written with`,
      );
    } catch (cause) {
      if (tried === TRIES) {
        throw new QloraError("DOWNLOAD_FAILED", (cause as Error).message, {
          hint: "Its server must answer byte ranges with the files as they were written. What is here already is kept for the next try.",
          cause,
        });
      }
      await new Promise((resolve) => setTimeout(resolve, WAIT_MS * tried));
    }
  }
}

/** The store keeps the bytes; the browser's own cache need not hold them a second time. */
const uncached = ((url: string, options: RequestInit) => fetch(url, { ...options, cache: "no-store" })) as typeof fetch;
