/** JSONL files: one JSON object a line. */
import { extname } from "node:path";
import { DataError } from "../../core/errors.ts";
import { isObject } from "../../core/formats/json-object.ts";
import { readDataFile } from "./csv.ts";

/** An object of a JSONL file. */
export interface JsonlRecord {
  readonly value: Readonly<Record<string, unknown>>;
  /** 1-based. */
  readonly line: number;
  /** The number `name` of the object as it is written, since a double rounds ids of 16 digits and more. */
  readonly writtenNumber: (name: string) => string | undefined;
}

/** A JSONL file, which is read when its records are. */
export interface JsonlFile {
  readonly type: "jsonl";
  readonly file: string;
  /** Whether the first object has a value of that name; false where the file does not begin with an object. */
  has(name: string): boolean;
  /**
   * Maps every object; blank lines are skipped.
   * @param hint what a line should hold, for errors
   * @throws DataError with file and line
   */
  map<T>(convert: (record: JsonlRecord) => T, hint: string): T[];
}

const EXTENSIONS = [".jsonl", ".ndjson", ".json"];

/** Whether a file is JSONL, by its name. */
export const isJsonl = (file: string): boolean => EXTENSIONS.includes(extname(file).toLowerCase());

/** A value of JSON in a message: its beginning, or what it is where it may be too deep to be written. */
export function excerptOf(value: unknown): string {
  if (Array.isArray(value) && value.some((item) => typeof item === "object")) return "a list of lists or objects";
  if (typeof value === "object" && value !== null && !Array.isArray(value)) return "an object";
  const cut = typeof value === "string" ? value.slice(0, 60) : Array.isArray(value) ? value.slice(0, 30) : value;
  const text = JSON.stringify(cut) ?? "nothing";
  const whole = cut === value || (cut as ArrayLike<unknown>).length === (value as ArrayLike<unknown>).length;
  return whole && text.length <= 62 ? text : `${text.slice(0, 60)}...`;
}

/** One past the closing quote of the JSON string that starts at `at`. */
function stringEnd(text: string, at: number): number {
  for (let end = text.indexOf('"', at + 1); end !== -1; end = text.indexOf('"', end + 1)) {
    let escapes = 0;
    while (text[end - 1 - escapes] === "\\") escapes++;
    if (escapes % 2 === 0) return end + 1;
  }
  return text.length;
}

/** JSON of a line as Python writes it: NaN and the infinities, which JSON lacks, are null. */
function withoutNaN(text: string): string {
  const tokens = /-?Infinity|NaN|"/g;
  let out = "";
  let at = 0;
  for (let found = tokens.exec(text); found !== null; found = tokens.exec(text)) {
    // Strings are skipped whole, so that the words inside them are left alone.
    if (found[0] === '"') tokens.lastIndex = stringEnd(text, found.index);
    else {
      out += `${text.slice(at, found.index)}null`;
      at = tokens.lastIndex;
    }
  }
  return out + text.slice(at);
}

function parseLine(text: string): { readonly value: unknown; readonly json: string } {
  try {
    return { value: JSON.parse(text), json: text };
  } catch (cause) {
    const json = /NaN|Infinity/.test(text) ? withoutNaN(text) : text;
    if (json === text) throw cause;
    return { value: JSON.parse(json), json };
  }
}

/** The number of an object's own `name` as it is written, since a double rounds ids of 16 digits and more. */
function writtenNumber(json: string, name: string): string | undefined {
  const tokens = /["{}[\]]/g;
  const number = /\s*:\s*(-?\d[\d.eE+-]*)/y;
  let depth = 0;
  let written: string | undefined;
  // Only tokens are looked at: a value may be too deep to be visited.
  for (let found = tokens.exec(json); found !== null; found = tokens.exec(json)) {
    if (found[0] === "{" || found[0] === "[") depth++;
    else if (found[0] !== '"') depth--;
    else {
      const end = stringEnd(json, found.index);
      tokens.lastIndex = number.lastIndex = end;
      const value = depth === 1 ? number.exec(json)?.[1] : undefined;
      if (value !== undefined && JSON.parse(json.slice(found.index, end)) === name) written = value;
    }
  }
  return written;
}

/** A JSONL file. @throws DataError from its members where it cannot be read */
export function openJsonl(file: string): JsonlFile {
  let read: Buffer | undefined;
  const bytes = (): Buffer => (read ??= readDataFile(file));
  let first: unknown;
  return {
    type: "jsonl",
    file,
    has: (name) => {
      first ??= firstValue(bytes());
      return isObject(first) && Object.hasOwn(first, name);
    },
    map: (convert, hint) => mapLines(file, bytes(), convert, hint),
  };
}

/** The value of the first line that is not blank; undefined where it is no JSON. */
function firstValue(bytes: Buffer): unknown {
  for (const [text] of linesOf(bytes)) {
    try {
      return parseLine(text).value;
    } catch {
      return undefined; // `map` throws for this line.
    }
  }
  return undefined;
}

/** Lines that are not blank, with their numbers from 1. */
function* linesOf(bytes: Buffer): Generator<readonly [text: string, line: number]> {
  const decoder = new TextDecoder();
  for (let start = 0, line = 1; start < bytes.length; line++) {
    const newline = bytes.indexOf(10, start);
    const end = newline === -1 ? bytes.length : newline;
    const text = decoder.decode(bytes.subarray(start, end)).trim();
    start = end + 1;
    if (text !== "") yield [text, line];
  }
}

function mapLines<T>(file: string, bytes: Buffer, convert: (record: JsonlRecord) => T, hint: string): T[] {
  const rows: T[] = [];
  for (const [text, line] of linesOf(bytes)) {
    const bad = (got: string, cause?: unknown) =>
      new DataError("DATA_CELL_INVALID", `expected one JSON object, got ${got}`, { file, line }, { hint, cause });
    let parsed: ReturnType<typeof parseLine>;
    try {
      parsed = parseLine(text);
    } catch (cause) {
      throw bad(`${excerptOf(text)} (${(cause as Error).message})`, cause);
    }
    const { value, json } = parsed;
    if (!isObject(value)) throw bad(excerptOf(value));
    rows.push(convert({ value, line, writtenNumber: (name) => writtenNumber(json, name) }));
  }
  return rows;
}
