/** A file as records, and the names by which a format asks for their columns. */
import type { DataRecord, DataSource } from "../../../core/plugin/data-format.ts";
import { type CsvRow, openCsv } from "../csv.ts";

/** A file of records, of whatever kind. */
export interface RecordFile {
  readonly type: DataSource["type"];
  /** Names of its columns; undefined where the records tell. */
  readonly columns: readonly string[] | undefined;
  /** All records in order, some at a time; read once. @throws DataError with file and line */
  batches(size: number): Iterable<readonly DataRecord[]> | AsyncIterable<readonly DataRecord[]>;
}

/** Names that the option `columns` gives: a format's name of a column to the file's. */
export type ColumnMap = Readonly<Record<string, string>>;

/** A row of a CSV. */
class CsvRecord implements DataRecord {
  readonly columns: readonly string[];
  readonly line: number;
  readonly #cells: readonly string[];
  readonly #places: ReadonlyMap<string, number>;

  constructor(columns: readonly string[], places: ReadonlyMap<string, number>, { cells, line }: CsvRow) {
    this.columns = columns;
    this.#places = places;
    this.#cells = cells;
    this.line = line;
  }

  value(column: string): string | undefined {
    const place = this.#places.get(column);
    return place === undefined ? undefined : this.#cells[place];
  }

  text(column: string): string | undefined {
    return this.value(column);
  }
}

/** A CSV file. @throws DataError */
export function csvRecords(file: string, content: Buffer): RecordFile {
  const csv = openCsv(file, content);
  const places = new Map(csv.header.map((name, index) => [name, index]));
  return {
    type: "csv",
    columns: csv.header,
    *batches(size) {
      for (const rows of csv.batches(size)) yield rows.map((row) => new CsvRecord(csv.header, places, row));
    },
  };
}

/** A record whose columns go by the format's names. */
class NamedRecord implements DataRecord {
  readonly #record: DataRecord;
  readonly #map: ColumnMap;

  constructor(record: DataRecord, map: ColumnMap) {
    this.#record = record;
    this.#map = map;
  }

  get line(): number {
    return this.#record.line;
  }

  get columns(): Iterable<string> {
    return this.#record.columns;
  }

  value(column: string): unknown {
    return this.#record.value(this.#map[column] ?? column);
  }

  text(column: string): string | undefined {
    return this.#record.text(this.#map[column] ?? column);
  }
}

/** A record as a format sees it. */
export const namedRecord = (record: DataRecord, map: ColumnMap): DataRecord =>
  Object.keys(map).length === 0 ? record : new NamedRecord(record, map);

/** What a format sees of a file. @param sample its first records, by the format's names */
export function describeSource(
  { type, columns }: Pick<RecordFile, "type" | "columns">,
  file: string,
  sample: readonly DataRecord[],
  map: ColumnMap,
): DataSource {
  // Objects of one file need not all have the same keys.
  const names = columns ?? [...new Set(sample.flatMap((record) => [...record.columns]))];
  const known = new Set(names);
  const nameOf = (column: string): string => map[column] ?? column;
  return { type, file, columns: names, sample, nameOf, has: (column) => known.has(nameOf(column)) };
}
