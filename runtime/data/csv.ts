import { CsvError, parse } from "csv-parse/sync";
import { isUtf8 } from "node:buffer";
import { readFileSync } from "node:fs";
import { DataError } from "../../core/errors.ts";
import { fileKind, hintFor } from "../../core/formats/file-kind.ts";
import { scanCsv } from "./csv-scan.ts";

/** A row and the line that it starts on. */
export interface CsvRow {
  readonly cells: readonly string[];
  readonly line: number;
}

/** A CSV file in memory: its header, and its rows with the line each starts on. */
export interface CsvFile {
  readonly type: "csv";
  readonly file: string;
  readonly header: readonly string[];
  /** Whether there is a column of that name. */
  has(name: string): boolean;
  /** Index of a column, or undefined. */
  column(name: string): number | undefined;
  /**
   * Maps every row after the header.
   * @throws DataError at the row's first line where the CSV is malformed
   */
  map<T>(convert: (cells: readonly string[], line: number) => T): T[];
  /** The rows after the header, some at a time. @throws DataError as `map` */
  batches(size: number): Iterable<readonly CsvRow[]>;
}

/** Bytes of text, once they are seen to be that. @throws DataError saying what else they are, or the line that is not UTF-8 */
export function requireText(file: string, bytes: Buffer): Buffer {
  refuseOtherKinds(file, bytes);
  if (isUtf8(bytes)) return bytes;
  const lineAt = (start: number): Buffer => {
    const end = bytes.indexOf(NEWLINE, start);
    return bytes.subarray(start, end === -1 ? bytes.length : end + 1);
  };
  let [line, start] = [1, 0];
  for (let text = lineAt(0); isUtf8(text); text = lineAt(start)) [line, start] = [line + 1, start + text.length];
  throw new DataError(
    "DATA_NOT_UTF8",
    "the text is not UTF-8",
    { file, line },
    { hint: "Save the file as UTF-8; pandas writes it by default, and reads others with encoding=..." },
  );
}

/** Text may begin with what marks another kind of file; a web page and a pointer are text themselves. */
function refuseOtherKinds(file: string, bytes: Buffer): void {
  const kind = fileKind(bytes);
  if (kind === undefined) return;
  const plain = kind.isText !== true && !bytes.subarray(0, 1024).some((byte) => byte < 9) && isUtf8(bytes);
  if (plain) return;
  const details = { hint: hintFor(kind.dataHint, file) };
  if (kind.name.startsWith("UTF-"))
    throw new DataError("DATA_NOT_UTF8", `the text is not UTF-8 but ${kind.name}`, { file, line: 1 }, details);
  throw new DataError(
    "DATA_FILE_KIND",
    `is ${kind.name}, expected a CSV, JSON, JSONL or Parquet file`,
    { file },
    details,
  );
}

/** All bytes of a file. @throws DataError naming it where it cannot be read */
export function readBytes(file: string): Buffer {
  try {
    return readFileSync(file);
  } catch (cause) {
    const missing = (cause as NodeJS.ErrnoException).code === "ENOENT";
    throw new DataError(
      missing ? "DATA_FILE_MISSING" : "DATA_FILE_UNREADABLE",
      missing ? "no such file" : `cannot be read: ${(cause as Error).message}`,
      { file },
      { hint: "Check the path; relative paths start at the current folder.", cause },
    );
  }
}

/** What ends a record outside quotes, the longest first. */
const RECORD_ENDS = ["\r\n", "\n", "\r"];
const NEWLINE = 10;
const RETURN = 13;

/** Tells the line of a byte offset, lines ending in `\r\n`, `\n` or `\r`; offsets must not decrease from call to call. */
function lineCounter(bytes: Buffer): (offset: number) => number {
  const next = (byte: number, from: number): number => {
    const at = bytes.indexOf(byte, from);
    return at === -1 ? bytes.length : at;
  };
  let line = 1;
  let [newline, carriage] = [next(NEWLINE, 0), next(RETURN, 0)];
  return (offset) => {
    while (Math.min(newline, carriage) < Math.min(offset, bytes.length)) {
      const at = Math.min(newline, carriage);
      // Of `\r\n`, the second ends the line.
      if (at !== carriage || bytes[at + 1] !== NEWLINE) line++;
      if (at === carriage) carriage = next(RETURN, at + 1);
      else newline = next(NEWLINE, at + 1);
    }
    return line;
  };
}

/** Opens a CSV file: UTF-8, commas, records that end at `\r\n`, `\n` or `\r`; quoted fields may hold all of them. @throws DataError */
export function openCsv(file: string, content: Buffer = readBytes(file)): CsvFile {
  const raw = requireText(file, content);
  const bytes = raw[0] === 0xef && raw[1] === 0xbb && raw[2] === 0xbf ? raw.subarray(3) : raw;

  function records(convert: (cells: string[], line: number) => void, to?: number): void {
    const lineOf = lineCounter(bytes);
    let end = 0;
    // The parser's own line count is that of a record's last line; a row is known by its first.
    const firstLine = (): number => {
      let start = end;
      while (bytes[start] === NEWLINE || bytes[start] === RETURN) start++;
      return lineOf(start);
    };
    try {
      parse(bytes, {
        record_delimiter: RECORD_ENDS,
        skip_empty_lines: true,
        ...(to === undefined ? {} : { to }),
        on_record: (cells: string[], info) => {
          const line = firstLine();
          end = info.bytes;
          convert(cells, line);
          return null;
        },
      });
    } catch (cause) {
      if (!(cause instanceof CsvError)) throw cause;
      throw new DataError(
        "DATA_CSV_MALFORMED",
        cause.message,
        { file, line: firstLine() },
        {
          hint: 'Every row needs the header\'s columns; a field with commas, quotes or newlines stands in "quotes", with "" for a quote.',
          cause,
        },
      );
    }
  }

  const scanned = scanCsv(bytes);
  let header = scanned?.read(0);
  if (header === undefined) records((cells) => (header = cells), 1);
  if (header === undefined)
    throw new DataError("DATA_EMPTY", "the file is empty", { file }, { hint: "A CSV file starts with a header line." });
  const names: readonly string[] = header;
  const places = new Map(names.map((name, index) => [name, index]));
  const twice = names.find((name, index) => places.get(name) !== index);
  if (twice !== undefined)
    throw new DataError("DATA_COLUMN_TWICE", `column ${JSON.stringify(twice)} stands twice in the header`, {
      file,
      line: 1,
    });

  function* rows(): Generator<CsvRow> {
    if (scanned === undefined) {
      const parsed: CsvRow[] = [];
      let failure: Error | undefined;
      try {
        records((cells, line) => parsed.push({ cells, line }));
      } catch (error) {
        failure = error as Error;
      }
      yield* parsed.slice(1);
      // Rows before a malformed one are told of first.
      if (failure !== undefined) throw failure;
      return;
    }
    const lineOf = lineCounter(bytes);
    for (let record = 1; record < scanned.records; record++)
      yield { cells: scanned.read(record), line: lineOf(scanned.start(record)) };
  }
  return {
    type: "csv",
    file,
    header: names,
    has: (name) => places.has(name),
    column: (name) => places.get(name),
    map: (convert) => {
      const converted: ReturnType<typeof convert>[] = [];
      for (const { cells, line } of rows()) converted.push(convert(cells, line));
      return converted;
    },
    *batches(size) {
      let batch: CsvRow[] = [];
      for (const row of rows()) {
        batch.push(row);
        if (batch.length < size) continue;
        yield batch;
        batch = [];
      }
      if (batch.length > 0) yield batch;
    },
  };
}
