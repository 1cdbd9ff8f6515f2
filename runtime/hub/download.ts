/**
 * One file of the hub into the cache. It grows as `<hash>.incomplete`, goes on by range after a cut, and takes its name only
 * once its hash is right; a file `blobs/<hash>` is always whole.
 */
import { createHash, type Hash } from "node:crypto";
import { existsSync } from "node:fs";
import { stat } from "node:fs/promises";
import { ModelError } from "../../core/errors.ts";
import { type DiskFile, makeFolder, openToWrite, remove, rename, syncFolder } from "../files/disk.ts";
import { explainWriteErrors } from "../files/files.ts";
import { takeLock } from "../files/lock.ts";
import type { CachePaths } from "./cache.ts";
import type { HubEnvironment } from "./environment.ts";
import { cut, interrupted, refusal, type HubTarget } from "./errors.ts";
import { ask, isBusy, pause, send } from "./http.ts";
import { hostOf } from "./url.ts";

/** Failures in a row, without a byte between them, that end a download. */
const ATTEMPTS = 5;
const READ_SIZE = 8 << 20;

/** A file as the hub describes it. */
export interface RemoteFile {
  readonly target: HubTarget & { readonly file: string };
  readonly url: string;
  /** Bytes. */
  readonly size: number;
  /** Name of its blob: sha256 of the content in Git LFS, git's sha1 otherwise. */
  readonly hash: string;
}

/** What downloads share. */
export interface DownloadContext {
  readonly hub: HubEnvironment;
  readonly paths: CachePaths;
  readonly signal: AbortSignal;
  /** Bytes that are newly there; negative where some had to be thrown away. */
  readonly onBytes: (count: number) => void;
}

/**
 * Asks for a file's size and hash.
 * @throws ModelError; one without a hash is refused, for it could not be checked
 */
export async function describeFile(
  context: DownloadContext,
  id: string,
  commit: string,
  file: string,
): Promise<RemoteFile> {
  const { hub, signal } = context;
  const target = { id, revision: commit, file };
  const url = `${hub.endpoint}/${id}/resolve/${commit}/${file.split("/").map(encodeURIComponent).join("/")}`;
  const { headers } = await ask(hub, target, url, { method: "HEAD", signal });
  const etag = headers.get("x-linked-etag") ?? headers.get("etag") ?? "";
  const hash = etag.replace(/^W\//, "").replaceAll('"', "");
  const size = Number(headers.get("x-linked-size") ?? headers.get("content-length") ?? Number.NaN);
  if (/^([0-9a-f]{40}|[0-9a-f]{64})$/.test(hash) && Number.isSafeInteger(size)) return { target, url, size, hash };
  throw new ModelError("HUB_NO_HASH", `${hostOf(hub.endpoint)} gives no size and hash of ${file} of ${id}`, {
    hint: "A download from there could not be checked; use another HF_ENDPOINT.",
  });
}

/** Bytes of a file that are in the cache already, whole or half. */
export async function bytesAtHand({ paths }: DownloadContext, { hash, size }: RemoteFile): Promise<number> {
  const blob = paths.blob(hash);
  if (existsSync(blob)) return size;
  const half = await stat(halfPath(blob)).catch(() => undefined);
  return Math.min(half?.size ?? 0, size);
}

const halfPath = (blob: string): string => `${blob}.incomplete`;

/**
 * Brings a file's blob into the cache; another process that is bringing it is waited for.
 * @throws ModelError HUB_CONNECTION_CUT, HUB_HASH_MISMATCH and refusals; QloraError DISK_FULL, INTERRUPTED
 */
export async function downloadBlob(context: DownloadContext, file: RemoteFile): Promise<void> {
  const { paths, signal } = context;
  const blob = paths.blob(file.hash);
  await explainWriteErrors(blob, async () => {
    await makeFolder(paths.blobs);
    await using lock = await takeLock(paths.lock(file.hash), signal);
    if (existsSync(blob)) return context.onBytes(file.size);
    if (signal.aborted) throw interrupted(file.target);
    // Without a lock the common half file might have another writer: take one that nobody knows.
    const half = lock.exclusive ? halfPath(blob) : halfPath(`${blob}.${crypto.randomUUID()}`);
    const handle = await openToWrite(half, "a+");
    try {
      await new Half(context, file, handle).complete();
      await handle.sync();
    } catch (error) {
      if (!lock.exclusive || (error instanceof ModelError && error.code === MISMATCH)) await remove(half);
      throw error;
    } finally {
      await handle.close();
    }
    await rename(half, blob);
    await syncFolder(paths.blobs);
  });
}

const MISMATCH = "HUB_HASH_MISMATCH";

/** A file that is growing, with the hash of what there is of it. */
class Half {
  readonly #context: DownloadContext;
  readonly #file: RemoteFile;
  readonly #handle: DiskFile;
  #have = 0;
  #hasher: Hash;

  constructor(context: DownloadContext, file: RemoteFile, handle: DiskFile) {
    this.#context = context;
    this.#file = file;
    this.#handle = handle;
    this.#hasher = newHasher(file);
  }

  /** Grows to the whole file. What an earlier process left may be damaged: then it starts over, once. */
  async complete(): Promise<void> {
    const kept = await this.#readKept();
    await this.#grow();
    if (this.#isRight()) return;
    if (kept > 0) {
      await this.#drop();
      await this.#grow();
      if (this.#isRight()) return;
    }
    const { target } = this.#file;
    throw new ModelError(
      MISMATCH,
      `${target.id}: ${target.file} arrived damaged: its hash is not the one that the hub states`,
      {
        hint: "It was thrown away: run the same command again, or use another HF_ENDPOINT.",
      },
    );
  }

  #isRight(): boolean {
    return this.#have === this.#file.size && this.#hasher.copy().digest("hex") === this.#file.hash;
  }

  /** Takes in what an earlier attempt left. @returns bytes of it */
  async #readKept(): Promise<number> {
    const size = await this.#handle.size();
    if (size > this.#file.size) await this.#handle.truncate(0);
    else {
      const piece = Buffer.alloc(Math.min(size, READ_SIZE));
      while (this.#have < size) {
        const bytesRead = await this.#handle.read(piece, this.#have);
        if (bytesRead === 0) break;
        this.#add(piece.subarray(0, bytesRead));
      }
    }
    return this.#have;
  }

  #add(piece: Uint8Array): void {
    this.#hasher.update(piece);
    this.#have += piece.byteLength;
    this.#context.onBytes(piece.byteLength);
  }

  async #drop(): Promise<void> {
    await this.#handle.truncate(0);
    this.#context.onBytes(-this.#have);
    this.#have = 0;
    this.#hasher = newHasher(this.#file);
  }

  /** Asks for the rest until it is there. */
  async #grow(): Promise<void> {
    const { hub, signal } = this.#context;
    const { size, target } = this.#file;
    for (let failures = 0; this.#have < size;) {
      const before = this.#have;
      const lost = await this.#receive();
      if (signal.aborted) throw interrupted(target);
      failures = this.#have > before ? 0 : failures + 1;
      if (this.#have >= size) return;
      if (failures === ATTEMPTS) throw cut(target, this.#have, size, lost.cause);
      await pause(hub, failures + 1, signal, lost.retryAfter);
    }
  }

  /** Takes in one answer, as far as it comes. @throws ModelError where the hub refuses for good */
  async #receive(): Promise<{ readonly cause: unknown; readonly retryAfter?: string | null }> {
    const { hub, signal } = this.#context;
    const { url, size, target } = this.#file;
    const stalled = new AbortController();
    const watch = setTimeout(() => stalled.abort(new DOMException("no bytes came", "TimeoutError")), hub.stallTimeout);
    const read = async <T>(promise: Promise<T>): Promise<T | { readonly lost: unknown }> =>
      promise.catch((lost: unknown) => ({ lost }));
    try {
      const headers: Record<string, string> = this.#have > 0 ? { range: `bytes=${this.#have}-` } : {};
      const response = await read(send(hub, url, { headers, signal: AbortSignal.any([signal, stalled.signal]) }));
      if ("lost" in response) return { cause: response.lost };
      if (response.status >= 400) {
        await response.body?.cancel();
        // An address on another host was signed for a while: the next attempt gets a new one.
        const passing = isBusy(response.status) || new URL(response.url).origin !== new URL(hub.endpoint).origin;
        if (!passing) throw refusal(hub, target, response);
        return { cause: `status ${response.status}`, retryAfter: response.headers.get("retry-after") };
      }
      const goesOn =
        response.status === 206 && response.headers.get("content-range")?.startsWith(`bytes ${this.#have}-`);
      if (this.#have > 0 && goesOn !== true) await this.#drop(); // the server does not know ranges
      const reader = (response.body ?? new Blob([]).stream()).getReader();
      while (this.#have <= size) {
        const piece = await read(reader.read());
        if ("lost" in piece) return { cause: piece.lost };
        if (piece.done) return { cause: "the connection ended early" };
        watch.refresh();
        await this.#handle.write(piece.value);
        this.#add(piece.value);
      }
      await reader.cancel();
      return { cause: "more bytes than announced" };
    } finally {
      clearTimeout(watch);
    }
  }
}

/** Git hashes a header with the size before the content. */
function newHasher({ hash, size }: RemoteFile): Hash {
  if (hash.length === 64) return createHash("sha256");
  return createHash("sha1").update(`blob ${size}\0`);
}
