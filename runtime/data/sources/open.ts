/** Opens a file of rows: by its bytes, what holds it (gzip, zip) and what it is. */
import { basename, dirname } from "node:path";
import { constants } from "node:buffer";
import { gunzipSync } from "node:zlib";
import type { ByteSource } from "../../../core/formats/bytes.ts";
import { DataError } from "../../../core/errors.ts";
import { fileKind } from "../../../core/formats/file-kind.ts";
import { openFolder } from "../../files/folder.ts";
import { readBytes } from "../csv.ts";
import type { DataFile } from "./data-file.ts";
import { isJson, openJson } from "./json.ts";
import { openParquet } from "./parquet.ts";
import { csvRecords, type RecordFile } from "./records.ts";
import { unzipMember } from "./zip.ts";

const HEAD_BYTES = 1024;
const MAGIC = "PAR1";

/** Bytes that lie in memory. */
const inMemory = (name: string, bytes: Buffer): ByteSource => ({
  name,
  size: bytes.length,
  read: async (offset, length) => Uint8Array.from(bytes.subarray(offset, offset + length)),
  close: async () => {},
});

/** Runs `work` on an open file, which stays open until all of its records are read. @throws DataError */
export async function withRecords<T>(file: DataFile, work: (records: RecordFile) => Promise<T>): Promise<T> {
  const { path, name } = file;
  // What cannot be opened is told by `readBytes`.
  const source = await openFolder(dirname(path))
    .open(basename(path))
    .catch(() => undefined);
  try {
    if (source !== undefined && (await isParquet(source))) return await work(await openParquet(name, source));
  } finally {
    await source?.close();
  }
  return work(await openBytes(file, readBytes(path)));
}

/** Only a file that ends as it begins is Parquet: text may begin with its mark. */
async function isParquet(source: ByteSource): Promise<boolean> {
  const length = MAGIC.length;
  if (source.size < 2 * length) return false;
  const ends = [await source.read(0, length), await source.read(source.size - length, length)];
  return ends.every((bytes) => Buffer.from(bytes).toString("latin1") === MAGIC);
}

/** What bytes hold, archives unpacked. */
async function openBytes({ path, name, member }: DataFile, bytes: Buffer): Promise<RecordFile> {
  const kind = fileKind(bytes.subarray(0, HEAD_BYTES))?.name;
  if (kind === "a gzip archive") {
    const inner = name.replace(/\.gz(ip)?$/i, "");
    return openBytes({ path, name: inner === name ? name : inner, member }, gunzip(name, bytes));
  }
  if (kind === "a zip archive") {
    const found = await unzipMember({ path, name, member }, bytes);
    return openBytes({ path, name: found.name, member: undefined }, found.bytes);
  }
  if (member !== undefined)
    throw new DataError(
      "DATA_FILE_KIND",
      `${name.slice(0, -member.length - 1)} is no zip archive, of which ${member} could be read`,
      { file: name },
    );
  if (bytes.toString("latin1", 0, 4) === MAGIC && bytes.toString("latin1", bytes.length - 4) === MAGIC)
    return openParquet(name, inMemory(name, bytes));
  if (kind === "a Parquet file" && /\.(parquet|pq)$/i.test(name))
    throw new DataError(
      "DATA_PARQUET_INVALID",
      "the Parquet file is cut off: it does not end as it begins",
      { file: name },
      { hint: "Download or write it again." },
    );
  return isJson(name) ? openJson(name, bytes) : csvRecords(name, bytes);
}

function gunzip(file: string, bytes: Buffer): Buffer {
  try {
    return gunzipSync(bytes, { maxOutputLength: constants.MAX_LENGTH });
  } catch (cause) {
    throw new DataError(
      "DATA_ARCHIVE_DAMAGED",
      `the gzip archive cannot be unpacked: ${(cause as Error).message}`,
      { file },
      { hint: "Make or download it again.", cause },
    );
  }
}
