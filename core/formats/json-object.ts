/** JSON objects, and what is no JSON object told as its reader tells errors. */
import { QloraError } from "../errors.ts";
import { fileKind } from "./file-kind.ts";

/** True for a JSON object. */
export function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Makes an error of what is wrong with a file, `is not a JSON object` say. */
type Refuse = (problem: string, cause?: unknown) => Error;

/** Deeper than any file of these formats, and shallower than what a walk over it could take. */
const DEEPEST = 200;
export const TOO_DEEP = `is nested more than ${DEEPEST} deep`;

/** True for JSON whose lists and objects stand in one another beyond reason. */
export function isTooDeep(json: string): boolean {
  let depth = 0;
  let quoted = false;
  for (let i = 0; i < json.length; i++) {
    const mark = json[i];
    if (mark === '"') quoted = !quoted;
    else if (quoted) i += mark === "\\" ? 1 : 0;
    else if (mark === "[" || mark === "{") depth++;
    else if (mark === "]" || mark === "}") depth--;
    if (depth > DEEPEST) return true;
  }
  return false;
}

/** An object of JSON text, or of its UTF-8 bytes. @throws what `refuse` makes */
export function parseJsonObject(json: string | Uint8Array, refuse: Refuse): Readonly<Record<string, unknown>> {
  const attempt = <T>(read: () => T): T => {
    try {
      return read();
    } catch (cause) {
      const kind = fileKind(typeof json === "string" ? new TextEncoder().encode(json.slice(0, 1024)) : json);
      if (kind !== undefined) throw refuse(`is ${kind.name}, not JSON`, cause);
      throw refuse(`is not valid JSON (${(cause as Error).message})`, cause);
    }
  };
  const text = typeof json === "string" ? json : attempt(() => new TextDecoder("utf-8", { fatal: true }).decode(json));
  if (isTooDeep(text)) throw refuse(TOO_DEEP);
  const value = attempt((): unknown => JSON.parse(text));
  if (isObject(value)) return value;
  throw refuse("is not a JSON object");
}

/** The error of a damaged file that qlora wrote, or that is the user's own. */
export const damaged =
  (path: string, hint: string): Refuse =>
  (problem, cause) =>
    new QloraError("FILE_DAMAGED", `${path}: ${problem}`, { hint, cause });
