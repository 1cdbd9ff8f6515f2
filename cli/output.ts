/** The two streams: data to stdout, all else to stderr. */
import { createConsola } from "consola";

/** Writes data; resolves when the reader has taken it. */
export function writeData(text: string): Promise<void> {
  return new Promise((resolve, reject) => {
    process.stdout.write(text, (error) => (error ? reject(error) : resolve()));
  });
}

/** A JSON document on stdout. */
export const writeJson = (value: unknown): Promise<void> => writeData(`${JSON.stringify(value, null, 2)}\n`);

/** Notes for the reader, on stderr; consola by itself would put some of them on stdout and drop repeats. */
export const notes = createConsola({
  stdout: process.stderr,
  stderr: process.stderr,
  throttle: 0,
  level: 3, // consola goes quiet under NODE_ENV=test
  fancy: process.stderr.isTTY,
  formatOptions: { date: false, colors: process.stderr.isTTY, compact: true },
});

const ansi = new RegExp(`${String.fromCodePoint(27)}\\[[0-9;]*m`, "g");

/** `text` without its colours unless `stream` shows them. */
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
