/** The two streams: data to stdout, all else to stderr. */
import { createConsola } from "consola";
import { QloraError } from "../core/errors.ts";
import { launchedRank } from "../runtime/distributed/launcher.ts";

/** Nobody reads stdout any more, as after `| head -1`: what is left to do is to end. */
export class ReaderGone extends Error {}

// What cannot be written to stdout is told by the write itself; there is nowhere to tell that stderr is gone.
for (const stream of [process.stdout, process.stderr]) stream.on("error", () => {});

/** Of several ranks, rank 0 alone talks; the others tell errors of their own. */
const talks = launchedRank(process.env) === 0;

/**
 * Writes data; resolves when the reader has taken it.
 * @throws ReaderGone where the reader has left; QloraError where the data has no place, as on a full disk
 */
export function writeData(text: string): Promise<void> {
  if (!talks) return Promise.resolve();
  return new Promise((resolve, reject) => {
    const end = (error?: Error | null): void => (error ? reject(refusal(error)) : resolve());
    try {
      process.stdout.write(text, end);
    } catch (error) {
      end(error as Error);
    }
  });
}

function refusal(cause: NodeJS.ErrnoException): Error {
  if (cause.code === "EPIPE") return new ReaderGone();
  return new QloraError("STDOUT_FAILED", `stdout: could not be written (${cause.code ?? cause.message})`, {
    hint: "Give --output where the command has it, or send stdout to a place with room.",
    cause,
  });
}

/** A JSON document on stdout. */
export const writeJson = (value: unknown): Promise<void> => writeData(`${JSON.stringify(value, null, 2)}\n`);

/** Notes for the reader, on stderr; consola by itself would put some of them on stdout and drop repeats. */
export const notes = createConsola({
  stdout: process.stderr,
  stderr: process.stderr,
  throttle: 0,
  level: talks ? 3 : 0, // consola goes quiet under NODE_ENV=test
  fancy: process.stderr.isTTY,
  formatOptions: { date: false, colors: process.stderr.isTTY, compact: true },
});

const ansi = new RegExp(`${String.fromCodePoint(27)}\\[[0-9;]*m`, "g");

/** `text` without its colors unless `stream` shows them. */
export const plainFor = (stream: NodeJS.WriteStream, text: string): string =>
  stream.isTTY && process.env["NO_COLOR"] === undefined ? text : text.replaceAll(ansi, "");

/** Rows as columns two spaces apart; numbers of a column flush right where `right` says so. */
export function columns(rows: readonly (readonly string[])[], right: readonly boolean[] = []): string {
  const widths: number[] = [];
  for (const row of rows) row.forEach((cell, i) => (widths[i] = Math.max(widths[i] ?? 0, cell.length)));
  const line = (row: readonly string[]): string =>
    row
      .map((cell, i) => (right[i] === true ? cell.padStart(widths[i]!) : cell.padEnd(widths[i]!)))
      .join("  ")
      .trimEnd();
  return rows.map((row) => `${line(row)}\n`).join("");
}

/** `119745024` -> `119,745,024`. */
export const thousands = (value: number): string => value.toLocaleString("en-US");
