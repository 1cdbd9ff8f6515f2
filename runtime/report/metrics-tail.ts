/** The entries of a metrics.jsonl that grows: what was read before is not read again. */
import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import type { LogEntry } from "../folder/trainer-state.ts";
import { parseMetrics } from "./run.ts";

const NEWLINE = 10;
/** So many bytes before what is new must still be as they were, or the file was rewritten. */
const OVERLAP = 64;

/**
 * A reader of the file, which gives all its entries each time; one that was replaced, cut or rewritten is read from its start.
 * @throws QloraError METRICS_DAMAGED with the line
 */
export function openMetricsTail(path: string): () => Promise<readonly LogEntry[]> {
  let file = -1;
  /** Bytes and lines of the whole lines that `entries` are of, and the end of those bytes. */
  let offset = 0;
  let lines = 0;
  let end = Buffer.alloc(0);
  let entries: LogEntry[] = [];
  const restart = (ino: number): void => {
    [file, offset, lines, end, entries] = [ino, 0, 0, Buffer.alloc(0), []];
  };
  const from = async (start: number): Promise<Buffer> =>
    Buffer.concat(await Array.fromAsync(createReadStream(path, { start })));

  return async () => {
    const found = await stat(path).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== "ENOENT") throw error;
    });
    if (found === undefined) return [];
    if (found.ino !== file || found.size < offset) restart(found.ino);
    let read = await from(offset - end.length);
    if (end.equals(read.subarray(0, end.length))) read = read.subarray(end.length);
    else {
      restart(found.ino);
      read = await from(0);
    }
    const whole = read.subarray(0, read.lastIndexOf(NEWLINE) + 1);
    const added = parseMetrics(whole.toString("utf8"), path, lines);
    for (const entry of added) entries.push(entry);
    offset += whole.length;
    end = Buffer.concat([end, whole.subarray(-OVERLAP)]).subarray(-OVERLAP);
    for (const byte of whole) if (byte === NEWLINE) lines++;
    // A last line without its end is shown where it is whole, and read again.
    const last = parseMetrics(read.subarray(whole.length).toString("utf8"), path, lines);
    return last.length === 0 ? entries : [...entries, ...last];
  };
}
