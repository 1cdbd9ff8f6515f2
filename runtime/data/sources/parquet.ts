/** Parquet files as records: one row group in memory at a time. */
import * as zlib from "node:zlib";
import type { Compressors, FileMetaData, parquetMetadataAsync, parquetReadObjects } from "hyparquet";
import type { ByteSource } from "../../../core/formats/bytes.ts";
import { DataError } from "../../../core/errors.ts";
import type { DataRecord } from "../../../core/plugin/data-format.ts";
import { loadPackage } from "../../packages.ts";
import type { RecordFile } from "./records.ts";

interface Reader {
  readonly parquetMetadataAsync: typeof parquetMetadataAsync;
  readonly parquetReadObjects: typeof parquetReadObjects;
}

/** A row of a Parquet file. */
class ParquetRecord implements DataRecord {
  readonly columns: readonly string[];
  readonly line: number;
  readonly #row: Readonly<Record<string, unknown>>;

  constructor(columns: readonly string[], line: number, row: Readonly<Record<string, unknown>>) {
    this.columns = columns;
    this.line = line;
    this.#row = row;
  }

  value(column: string): unknown {
    return Object.hasOwn(this.#row, column) ? plainValue(this.#row[column]) : undefined;
  }

  text(column: string): string | undefined {
    const value = Object.hasOwn(this.#row, column) ? this.#row[column] : undefined;
    if (typeof value === "string") return value;
    return typeof value === "number" || typeof value === "bigint" ? String(value) : undefined;
  }
}

/** Numbers of 64 bits that a double holds are numbers, dates are texts; the rest is as it is. */
function plainValue(value: unknown): unknown {
  if (typeof value === "bigint") {
    const number = Number(value);
    return Number.isSafeInteger(number) ? number : value;
  }
  if (value instanceof Date) return value.toISOString();
  if (Array.isArray(value)) return value.map(plainValue);
  // hyparquet gives columns of numbers as typed arrays.
  return ArrayBuffer.isView(value) && !(value instanceof Uint8Array) && !(value instanceof DataView)
    ? Array.from(value as unknown as ArrayLike<number | bigint>, plainValue)
    : value;
}

/** A reader's copy, which need not begin at the start of its buffer. */
const whole = (bytes: Uint8Array): ArrayBuffer =>
  bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength) as ArrayBuffer;

/** What hyparquet lacks and the host has; Snappy it has itself. */
const compressors: Compressors = {
  GZIP: (input) => zlib.gunzipSync(input),
  BROTLI: (input) => zlib.brotliDecompressSync(input),
  // Node has it from 22.15 on.
  ...("zstdDecompressSync" in zlib ? { ZSTD: (input: Uint8Array) => zlib.zstdDecompressSync(input) } : {}),
};

/** Codecs of a file's columns that nothing here decompresses. */
function foreignCodecs({ row_groups: groups }: FileMetaData): string[] {
  const codecs = new Set(groups.flatMap(({ columns }) => columns.map((column) => column.meta_data?.codec)));
  const known = new Set<string>(["UNCOMPRESSED", "SNAPPY", ...Object.keys(compressors)]);
  return [...codecs].filter((codec): codec is NonNullable<typeof codec> => codec !== undefined && !known.has(codec));
}

const UNREADABLE =
  "Write it anew: python -c \"import pandas as pd; pd.read_parquet('FILE').to_parquet('rows.parquet')\"";

/** A Parquet file. @throws DataError */
export async function openParquet(file: string, source: ByteSource): Promise<RecordFile> {
  const { parquetMetadataAsync: readMetadata, parquetReadObjects: readObjects } = await loadPackage<Reader>(
    import("hyparquet"),
    { name: "hyparquet", task: `reading ${file}`, hint: "Reinstall the packages, or write the rows as CSV or JSONL." },
  );
  const buffer = {
    byteLength: source.size,
    slice: async (start: number, end = source.size) => whole(await source.read(start, Math.max(0, end - start))),
  };
  const refuse = (message: string, line: number | undefined, cause?: unknown): DataError =>
    new DataError("DATA_PARQUET_INVALID", message, line === undefined ? { file } : { file, line }, {
      hint: UNREADABLE.replace("FILE", file),
      cause,
    });
  const reading = async <T>(line: number | undefined, read: () => Promise<T>): Promise<T> => {
    try {
      return await read();
    } catch (cause) {
      throw refuse(`the Parquet file cannot be read: ${(cause as Error).message}`, line, cause);
    }
  };
  const metadata = await reading(undefined, () => readMetadata(buffer));
  const foreign = foreignCodecs(metadata);
  if (foreign.length > 0)
    throw refuse(`its columns are compressed by ${foreign.join(", ")}, which is not read here`, undefined);
  const columns = topColumns(metadata);
  return {
    type: "parquet",
    columns,
    async *batches(size) {
      let rowStart = 0;
      for (const group of metadata.row_groups) {
        const rowEnd = rowStart + Number(group.num_rows);
        const rows = await reading(rowStart + 1, () =>
          readObjects({ file: buffer, metadata, compressors, rowStart, rowEnd }),
        );
        for (let at = 0; at < rows.length; at += size)
          yield rows
            .slice(at, at + size)
            .map((row, i) => new ParquetRecord(columns, rowStart + at + i + 1, row as Record<string, unknown>));
        rowStart = rowEnd;
      }
    },
  };
}

/** Names of the columns at the top of the schema, which lists them before those inside them. */
function topColumns({ schema }: FileMetaData): string[] {
  const names: string[] = [];
  // Elements under an element follow it.
  const skip = (at: number): number => {
    let next = at + 1;
    for (let child = 0; child < (schema[at]?.num_children ?? 0); child++) next = skip(next);
    return next;
  };
  for (let at = 1; at < schema.length; at = skip(at)) names.push(schema[at]!.name);
  return names;
}
