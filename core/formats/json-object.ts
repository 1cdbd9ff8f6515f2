/** JSON objects, and what is no JSON object told as its reader tells errors. */
import { QloraError } from "../errors.ts";

/** True for a JSON object. */
export function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Makes an error of what is wrong with a file, `is not a JSON object` say. */
type Refuse = (problem: string, cause?: unknown) => Error;

/** An object of JSON text, or of its UTF-8 bytes. @throws what `refuse` makes */
export function parseJsonObject(json: string | Uint8Array, refuse: Refuse): Readonly<Record<string, unknown>> {
  let value: unknown;
  try {
    value = JSON.parse(typeof json === "string" ? json : new TextDecoder("utf-8", { fatal: true }).decode(json));
  } catch (cause) {
    throw refuse(`is not valid JSON (${(cause as Error).message})`, cause);
  }
  if (isObject(value)) return value;
  throw refuse("is not a JSON object");
}

/** The error of a damaged file that qlora wrote, or that is the user's own. */
export const damaged =
  (path: string, hint: string): Refuse =>
  (problem, cause) =>
    new QloraError("FILE_DAMAGED", `${path}: ${problem}`, { hint, cause });
