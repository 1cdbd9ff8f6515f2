/** A file of rows, wherever it comes from. */
export interface DataFile {
  /** Where it lies on this machine. */
  readonly path: string;
  /** What messages and rows call it. */
  readonly name: string;
  /** The file in a zip archive that is meant; undefined for the only one. */
  readonly member: string | undefined;
}

/** Endings of names of files that hold rows. */
export const ROW_FILE = /\.(csv|jsonl?|ndjson|parquet|pq)(\.gz)?$/i;
