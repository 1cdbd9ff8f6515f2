import { DataError } from "../../core/errors.ts";
import type { Dataset } from "./dataset.ts";
import { formatOf } from "./formats/index.ts";

/** Rows sent to the library at once. */
const CHUNK_ROWS = 128;

export type TokenLengths = {
  /** [rows] tokens of each row. */
  readonly lengths: Uint32Array;
  /** [rows] tokens of each row before truncation. */
  readonly fullLengths: Uint32Array;
  /** [rows] what truncation took, as bits (see truncation.ts). */
  readonly cuts: Uint32Array;
};

/** A dataset whose ids become available as they are made. */
export interface TokenizedDataset {
  readonly dataset: Dataset;
  readonly size: number;
  /** Whether the ids came from the cache. */
  readonly fromCache: boolean;
  /** sha256 (hex) of rows, labels, order, tokenizer and options: what training sees. A resumed run must find the same. */
  readonly fingerprint: string;
  /** Ids of one row, as soon as they are there. @throws DataError */
  get(index: number): Promise<Uint32Array>;
  /** Ids of several rows, in the order of `indices`. @throws DataError */
  ready(indices: ArrayLike<number>): Promise<readonly Uint32Array[]>;
  /** Lengths of all rows, once all are tokenized. @throws DataError */
  done(): Promise<TokenLengths>;
}

/** Rows that are encoded together; settles when their ids are there. */
export type TokenChunk = {
  readonly rows: readonly number[];
  readonly promise: Promise<void>;
  resolve(): void;
  reject(error: unknown): void;
};

export type TokenStoreOptions = {
  readonly vocabSize: number | undefined;
  readonly maxLength: number | undefined;
  /** Rows in the order in which they will be needed; undefined: the order of the dataset. */
  readonly order: ArrayLike<number> | undefined;
};

/** Where the ids of a dataset arrive, and where those who need them wait. Rows of input_ids are there at once. @throws DataError */
export function createTokenStore(dataset: Dataset, { vocabSize = Infinity, maxLength, order }: TokenStoreOptions) {
  const { rows } = dataset;
  const ids: (Uint32Array | undefined)[] = Array.from({ length: rows.length });
  const fullLengths = new Uint32Array(rows.length);
  const cuts = new Uint32Array(rows.length);
  const chunks: TokenChunk[] = [];
  const chunkOf = new Map<number, TokenChunk>();

  const accept = (index: number, row: Uint32Array, fullLength: number, cut: number): void => {
    // A plain loop: `find` takes ten times as long over millions of ids.
    for (let at = 0; at < row.length; at++) {
      if (row[at]! < vocabSize) continue;
      const message = `token id ${row[at]} is outside the model's vocabulary of ${vocabSize}`;
      throw new DataError("DATA_TOKEN_INVALID", message, rows[index]!, {
        hint: "Use the tokenizer that belongs to the model.",
      });
    }
    if (row.length === 0)
      throw new DataError("DATA_TOKEN_INVALID", "the row has no tokens", rows[index]!, {
        hint: "Switch addEos on, or drop empty rows.",
      });
    ids[index] = row;
    fullLengths[index] = fullLength;
    cuts[index] = cut;
  };

  const pending: number[] = [];
  const place = (index: number): void => {
    const row = rows[index]!;
    const inputIds = formatOf(row).fields(row);
    if (!(inputIds instanceof Uint32Array)) {
      pending.push(index);
      return;
    }
    if (maxLength !== undefined && inputIds.length > maxLength) {
      throw new DataError(
        "DATA_ROW_TOO_LONG",
        `the row has ${inputIds.length} input_ids, more than maxLength ${maxLength}`,
        row,
        {
          hint: "Rows of input_ids are taken as they are: shorten them, or raise maxLength.",
        },
      );
    }
    accept(index, inputIds, inputIds.length, 0);
  };
  const sorted = order === undefined ? rows.map((_, index) => index) : Array.from(order);
  if (
    sorted.length !== rows.length ||
    new Set(sorted).size !== rows.length ||
    sorted.some((index) => rows[index] === undefined)
  ) {
    throw new RangeError(`order must name each of the ${rows.length} rows once`);
  }
  sorted.forEach(place);
  for (let start = 0; start < pending.length; start += CHUNK_ROWS) {
    const chunk: TokenChunk = { rows: pending.slice(start, start + CHUNK_ROWS), ...Promise.withResolvers<void>() };
    chunk.promise.catch(() => {}); // Callers of `get` see the rejection; there may be none.
    chunk.rows.forEach((index) => chunkOf.set(index, chunk));
    chunks.push(chunk);
  }

  const get = async (index: number): Promise<Uint32Array> => {
    if (rows[index] === undefined) throw new RangeError(`row ${index} is outside 0..${rows.length - 1}`);
    if (ids[index] === undefined) await chunkOf.get(index)!.promise;
    return ids[index]!;
  };
  const view = (fingerprint: string, fromCache: boolean): TokenizedDataset => ({
    dataset,
    size: rows.length,
    fromCache,
    fingerprint,
    get,
    ready: (indices) => Promise.all(Array.from(indices, get)),
    done: async () => {
      await Promise.all(chunks.map(({ promise }) => promise));
      return {
        lengths: Uint32Array.from(ids, (row) => row!.length),
        fullLengths: fullLengths.slice(),
        cuts: cuts.slice(),
      };
    },
  });
  return { dataset, chunks, accept, view, tokens: () => ({ rows: ids as readonly Uint32Array[], fullLengths, cuts }) };
}

export type TokenStore = ReturnType<typeof createTokenStore>;
