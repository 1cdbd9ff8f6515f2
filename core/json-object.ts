import { QloraError } from "./errors.ts";

/** An object of the JSON text of `path`, a file that qlora writes. @throws QloraError saying that it is damaged, and `hint` */
export function parseJsonObject(text: string, path: string, hint: string): Readonly<Record<string, unknown>> {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    const reason = (cause as Error).message;
    throw new QloraError("FILE_DAMAGED", `${path}: is not valid JSON (${reason})`, { hint, cause });
  }
  if (typeof value === "object" && value !== null && !Array.isArray(value))
    return value as Readonly<Record<string, unknown>>;
  throw new QloraError("FILE_DAMAGED", `${path}: is not a JSON object`, { hint });
}
