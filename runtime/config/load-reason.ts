/** Where and why a third-party module does not load. */
import { relative } from "node:path";

/** What Bun adds to an error of parsing; its own types are not on other runtimes. */
type Placed = {
  readonly message: string;
  readonly position?: { readonly file: string; readonly line: number; readonly column: number } | null;
};

/** The first reason, with its line where the file does not parse. */
export function loadReason(cause: unknown, file: string): string {
  if (!(cause instanceof Error)) return String(cause);
  // Several errors of parsing come as one, whose own message is only their number.
  const { message, position } = ((cause as Partial<AggregateError>).errors?.[0] ?? cause) as Placed;
  if (position === undefined || position === null) return message;
  const other = position.file === file ? "" : `${relative(process.cwd(), position.file)}, `;
  return `${other}line ${position.line}, column ${position.column}: ${message}`;
}
