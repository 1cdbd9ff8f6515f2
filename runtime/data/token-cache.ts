import { createHash, randomBytes } from "node:crypto";
import { existsSync } from "node:fs";
import { readdir, readFile, stat } from "node:fs/promises";
import { homedir } from "node:os";
import { dirname, join } from "node:path";
import { makeFolder, openToWrite, remove, rename, syncFolder } from "../files/disk.ts";

/**
 * A cache file, little-endian: "QLORATK2", rows u32, tokens u32, key (32 bytes), padding to 64 bytes; lengths u32[rows];
 * full lengths u32[rows]; cuts u32[rows]; ids u32[tokens]; sha256 of all before it (32 bytes).
 */
const MAGIC = "QLORATK2";
const HEADER_BYTES = 64;
const DIGEST_BYTES = 32;
const PIECE_BYTES = 4 << 20;
const STALE_MS = 24 * 3600 * 1000;

/** Token ids of a dataset, row by row. */
export type CachedTokens = {
  readonly rows: readonly Uint32Array[];
  /** [rows] tokens of each row before truncation. */
  readonly fullLengths: Uint32Array;
  /** [rows] what truncation took, as bits (see truncation.ts). */
  readonly cuts: Uint32Array;
};

export type CacheLookup =
  | ({ readonly kind: "hit" } & CachedTokens)
  | { readonly kind: "miss" }
  | { readonly kind: "corrupt"; readonly reason: string };

/** `$XDG_CACHE_HOME/qlora`, else `~/.cache/qlora`. */
export function defaultCacheDir(): string {
  const base = process.env["XDG_CACHE_HOME"];
  return join(base === undefined || base === "" ? join(process.env["HOME"] ?? homedir(), ".cache") : base, "qlora");
}

/** The file that holds the tokens of `key` (sha256, hex). */
export function tokenCacheFile(cacheDir: string, key: string): string {
  return join(cacheDir, "tokens", `${key}.bin`);
}

/** Looks `key` up; a file that is short, altered, unreadable or of another key is "corrupt", never a hit. */
export async function readTokenCache(cacheDir: string, key: string, rows: number): Promise<CacheLookup> {
  const file = tokenCacheFile(cacheDir, key);
  if (!existsSync(file)) return { kind: "miss" };
  const corrupt = (reason: string): CacheLookup => ({ kind: "corrupt", reason });
  let bytes: Buffer<ArrayBuffer>;
  try {
    bytes = await readFile(file);
  } catch (cause) {
    return corrupt(`cannot be read: ${(cause as Error).message}`);
  }
  if (bytes.byteLength < HEADER_BYTES + DIGEST_BYTES) return corrupt(`only ${bytes.byteLength} bytes`);
  const [fileRows, tokens] = [bytes.readUInt32LE(8), bytes.readUInt32LE(12)];
  const expected = HEADER_BYTES + 4 * (3 * fileRows + tokens) + DIGEST_BYTES;
  if (bytes.toString("latin1", 0, 8) !== MAGIC) return corrupt("not a token cache file");
  if (bytes.byteLength !== expected) return corrupt(`${bytes.byteLength} bytes, expected ${expected}`);
  if (bytes.toString("hex", 16, 48) !== key || fileRows !== rows) return corrupt("it belongs to other data");
  const end = bytes.byteLength - DIGEST_BYTES;
  const digest = createHash("sha256").update(bytes.subarray(0, end)).digest();
  if (!digest.equals(bytes.subarray(end))) return corrupt("the checksum does not match");

  // Views of numbers begin at a multiple of their size, which a Buffer of Node's pool need not.
  const buffer = bytes.byteOffset % 4 === 0 ? bytes.buffer : Uint8Array.from(bytes).buffer;
  const start = (buffer === bytes.buffer ? bytes.byteOffset : 0) + HEADER_BYTES;
  const lengths = new Uint32Array(buffer, start, rows);
  const fullLengths = new Uint32Array(buffer, start + 4 * rows, rows);
  const cuts = new Uint32Array(buffer, start + 8 * rows, rows);
  const ids = new Uint32Array(buffer, start + 12 * rows, tokens);
  let at = 0;
  return { kind: "hit", rows: Array.from(lengths, (length) => ids.subarray(at, (at += length))), fullLengths, cuts };
}

/** Writes a cache file aside, syncs it and renames it into place, so that a half-written file never has the name. */
export async function writeTokenCache(
  cacheDir: string,
  key: string,
  { rows, fullLengths, cuts }: CachedTokens,
): Promise<void> {
  const file = tokenCacheFile(cacheDir, key);
  const folder = dirname(file);
  await makeFolder(folder);
  await removeStale(folder);
  const aside = `${file}.${process.pid}-${randomBytes(4).toString("hex")}.tmp`;
  try {
    {
      await using opened = await openToWrite(aside, "wx");
      const hash = createHash("sha256");
      for (const piece of pieces(key, { rows, fullLengths, cuts })) {
        hash.update(piece);
        await opened.write(piece);
      }
      await opened.write(hash.digest());
      await opened.sync();
    }
    await rename(aside, file);
  } catch (cause) {
    await remove(aside);
    throw cause;
  }
  await syncFolder(folder);
}

/** The file in pieces of a few megabytes, so that writing it does not hold up training for long at a time. */
function* pieces(key: string, { rows, fullLengths, cuts }: CachedTokens): Generator<Uint8Array> {
  const header = Buffer.alloc(HEADER_BYTES);
  header.write(MAGIC, "latin1");
  header.writeUInt32LE(rows.length, 8);
  header.writeUInt32LE(
    rows.reduce((sum, row) => sum + row.length, 0),
    12,
  );
  header.write(key, 16, "hex");
  yield header;
  yield asBytes(Uint32Array.from(rows, (row) => row.length));
  yield asBytes(fullLengths);
  yield asBytes(cuts);
  let gathered: Uint8Array[] = [];
  let size = 0;
  for (const row of rows) {
    gathered.push(asBytes(row));
    size += row.byteLength;
    if (size < PIECE_BYTES) continue;
    yield Buffer.concat(gathered);
    [gathered, size] = [[], 0];
  }
  if (size > 0) yield Buffer.concat(gathered);
}

function asBytes(array: Uint32Array): Uint8Array {
  return new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
}

/** Removes what killed writers left behind; a living one is never a day old. */
async function removeStale(folder: string): Promise<void> {
  for (const name of await readdir(folder)) {
    if (!name.endsWith(".tmp")) continue;
    const path = join(folder, name);
    const age = await stat(path).then(
      ({ mtimeMs }) => Date.now() - mtimeMs,
      () => 0, // Renamed or removed by its writer meanwhile.
    );
    if (age > STALE_MS) await remove(path);
  }
}
