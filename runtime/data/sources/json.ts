/** JSON files as records: one object a line (JSONL), or one list of objects. */
import { extname } from "node:path";
import { DataError } from "../../../core/errors.ts";
import { isObject } from "../../../core/formats/json-object.ts";
import type { DataRecord } from "../../../core/plugin/data-format.ts";
import { requireText } from "../csv.ts";
import type { RecordFile } from "./records.ts";

const EXTENSIONS = [".jsonl", ".ndjson", ".json"];

/** Whether a file is JSON, by its name. */
export const isJson = (file: string): boolean => EXTENSIONS.includes(extname(file).toLowerCase());

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

/** JSON as Python writes it: NaN and the infinities, which JSON lacks, are null. */
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

function parseText(text: string): { readonly value: unknown; readonly json: string } {
  try {
    return { value: JSON.parse(text), json: text };
  } catch (cause) {
    const json = /NaN|Infinity/.test(text) ? withoutNaN(text) : text;
    if (json === text) throw cause;
    return { value: JSON.parse(json), json };
  }
}

/** The number of an object's own `name` as it is written. */
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

/** An object of a JSON file. */
class JsonRecord implements DataRecord {
  readonly line: number;
  readonly #value: Readonly<Record<string, unknown>>;
  readonly #json: string;

  constructor(value: Readonly<Record<string, unknown>>, line: number, json: string) {
    this.#value = value;
    this.line = line;
    this.#json = json;
  }

  get columns(): Iterable<string> {
    return Object.keys(this.#value);
  }

  value(column: string): unknown {
    if (!Object.hasOwn(this.#value, column)) return undefined;
    const value = this.#value[column];
    if (typeof value !== "number" || !Number.isInteger(value) || Number.isSafeInteger(value)) return value;
    const written = writtenNumber(this.#json, column);
    return written !== undefined && /^-?\d+$/.test(written) ? BigInt(written) : value;
  }

  text(column: string): string | undefined {
    const value = Object.hasOwn(this.#value, column) ? this.#value[column] : undefined;
    if (typeof value === "number") return writtenNumber(this.#json, column) ?? String(value);
    return typeof value === "string" ? value : undefined;
  }
}

/** A text of JSON and the line that it starts on. */
type Item = readonly [text: string, line: number];

const [QUOTE, BACKSLASH, NEWLINE, COMMA] = [34, 92, 10, 44];
const [OPEN_LIST, CLOSE_LIST, OPEN_OBJECT, CLOSE_OBJECT] = [91, 93, 123, 125];
const isSpace = (byte: number | undefined): boolean => byte === 32 || (byte !== undefined && byte >= 9 && byte <= 13);

/** Lines that are not blank, with their numbers from 1. */
function* linesOf(bytes: Buffer): Generator<Item> {
  const decoder = new TextDecoder();
  for (let start = 0, line = 1; start < bytes.length; line++) {
    const newline = bytes.indexOf(NEWLINE, start);
    const end = newline === -1 ? bytes.length : newline;
    const text = decoder.decode(bytes.subarray(start, end)).trim();
    start = end + 1;
    if (text !== "") yield [text, line];
  }
}

/** Items of a list, each as its text: the list is never held as values as a whole. @param from past its bracket */
function* itemsOf(file: string, bytes: Buffer, from: number): Generator<Item> {
  let line = 1;
  for (let at = 0; at < from; at++) if (bytes[at] === NEWLINE) line++;
  const bad = (what: string): DataError =>
    new DataError(
      "DATA_JSON_MALFORMED",
      what,
      { file, line },
      { hint: "A JSON file is a list of objects: [{...}, {...}]." },
    );
  let at = from;
  for (let first = true; ; first = false) {
    while (isSpace(bytes[at])) if (bytes[at++] === NEWLINE) line++;
    if (at >= bytes.length) throw bad("the list is not closed");
    if (bytes[at] === CLOSE_LIST && first) break;
    const [start, startLine] = [at, line];
    let depth = 0;
    for (; at < bytes.length; at++) {
      const byte = bytes[at];
      if (byte === NEWLINE) line++;
      else if (byte === QUOTE) at = stringEndAt(bytes, at);
      else if (byte === OPEN_LIST || byte === OPEN_OBJECT) depth++;
      else if (depth === 0 && (byte === COMMA || byte === CLOSE_LIST)) break;
      else if (byte === CLOSE_LIST || byte === CLOSE_OBJECT) depth--;
    }
    if (at >= bytes.length) throw bad("the list is not closed");
    yield [bytes.toString("utf8", start, at).trim(), startLine];
    if (bytes[at++] === CLOSE_LIST) break;
  }
  const end = bytes[at] === CLOSE_LIST ? at + 1 : at;
  const rest = bytes.toString("utf8", end, end + 1000).trim();
  if (rest !== "") throw bad(`expected nothing after the list, got ${excerptOf(rest)}`);
}

/** The closing quote of the string that opens at `at`; the end of the bytes where there is none. */
function stringEndAt(bytes: Buffer, at: number): number {
  for (let end = bytes.indexOf(QUOTE, at + 1); end !== -1; end = bytes.indexOf(QUOTE, end + 1)) {
    let escapes = 0;
    while (bytes[end - 1 - escapes] === BACKSLASH) escapes++;
    if (escapes % 2 === 0) return end;
  }
  return bytes.length;
}

/** Where the items of a list begin; undefined for JSONL. A file called .jsonl is never taken for a list. */
function listStart(file: string, bytes: Buffer): number | undefined {
  if (extname(file).toLowerCase() !== ".json") return undefined;
  let at = bytes[0] === 0xef && bytes[1] === 0xbb && bytes[2] === 0xbf ? 3 : 0;
  while (isSpace(bytes[at])) at++;
  return bytes[at] === OPEN_LIST ? at + 1 : undefined;
}

const HINT =
  'A JSONL file has one object a line: {"text": "...", "label": 0}; pandas writes it by df.to_json(file, orient="records", lines=True).';

function toRecord(file: string, [text, line]: Item): JsonRecord {
  const bad = (got: string, cause?: unknown) =>
    new DataError("DATA_CELL_INVALID", `expected one JSON object, got ${got}`, { file, line }, { hint: HINT, cause });
  let parsed: ReturnType<typeof parseText>;
  try {
    parsed = parseText(text);
  } catch (cause) {
    throw bad(`${excerptOf(text)} (${(cause as Error).message})`, cause);
  }
  if (!isObject(parsed.value)) throw bad(excerptOf(parsed.value));
  return new JsonRecord(parsed.value, line, parsed.json);
}

/** A JSON file. @throws DataError with file and line where it cannot be read */
export function openJson(file: string, content: Buffer): RecordFile {
  const bytes = requireText(file, content);
  const start = listStart(file, bytes);
  return {
    type: "json",
    columns: undefined,
    *batches(size) {
      let batch: DataRecord[] = [];
      for (const item of start === undefined ? linesOf(bytes) : itemsOf(file, bytes, start)) {
        batch.push(toRecord(file, item));
        if (batch.length < size) continue;
        yield batch;
        batch = [];
      }
      if (batch.length > 0) yield batch;
    },
  };
}
