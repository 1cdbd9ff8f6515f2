/**
 * JSON as Python's json module writes it, for files that Hugging Face's tools share with us: keys sorted, two spaces
 * of indent, ASCII only, floats told apart from integers (`1.0`, `1e-05`), NaN and Infinity bare.
 */
import { compareBytes } from "./bytes.ts";
import { isTooDeep, TOO_DEEP } from "./json-object.ts";

/** A number that Python holds as a float: it keeps its `.0`. */
export class PythonFloat {
  constructor(readonly value: number) {}
}

/** Marks a number as a Python float. */
export function pyFloat(value: number): PythonFloat {
  return new PythonFloat(value);
}

/** What {@link formatPythonJson} writes; a bare number with a fraction is a float, without one an integer. */
export type PythonJson =
  | null
  | boolean
  | number
  | string
  | PythonFloat
  | readonly PythonJson[]
  | { readonly [key: string]: PythonJson };

/** `json.dumps(value, indent=2, sort_keys=True)`. */
export function formatPythonJson(value: PythonJson): string {
  return format(value, "\n");
}

/**
 * `json.loads(text)`: JSON, and NaN and Infinity besides.
 * @throws SyntaxError
 */
export function parsePythonJson(text: string): unknown {
  if (isTooDeep(text)) throw new SyntaxError(TOO_DEEP);
  // Strings are matched first, so that the words inside them are left alone.
  const marked = text.replaceAll(/"(?:[^"\\]|\\.)*"|-?Infinity|NaN/g, (token) =>
    token.startsWith('"') ? token : `"\\u0000${token}"`,
  );
  if (marked === text) return JSON.parse(text);
  return JSON.parse(marked, (_, value: unknown) =>
    typeof value === "string" && value.startsWith("\0") ? Number(value.slice(1)) : value,
  );
}

/**
 * JSON whose numbers stay what they were in Python: one written with a point or an exponent is a float.
 * @throws SyntaxError
 */
export function parsePythonNumbers(text: string): PythonJson {
  const reviver = (_: string, value: unknown, { source = "" }: { readonly source?: string } = {}): unknown =>
    typeof value === "number" && /[.eE]/.test(source) ? pyFloat(value) : value;
  return JSON.parse(text, reviver) as PythonJson;
}

/** `repr(value)` of a Python float: shortest digits, an exponent below 1e-4 and from 1e16 on. */
export function formatPythonFloat(value: number): string {
  if (Number.isNaN(value)) return "NaN";
  if (!Number.isFinite(value)) return value > 0 ? "Infinity" : "-Infinity";
  if (Object.is(value, -0)) return "-0.0";
  const magnitude = Math.abs(value);
  if (magnitude !== 0 && (magnitude < 1e-4 || magnitude >= 1e16)) {
    const [digits, exponent] = value.toExponential().split("e") as [string, string];
    return `${digits}e${exponent[0]}${exponent.slice(1).padStart(2, "0")}`;
  }
  const text = String(value);
  return text.includes(".") ? text : `${text}.0`;
}

function format(value: PythonJson, newline: string): string {
  if (value === null || typeof value === "boolean") return String(value);
  if (typeof value === "number") return Number.isSafeInteger(value) ? String(value) : formatPythonFloat(value);
  if (typeof value === "string") return formatString(value);
  if (value instanceof PythonFloat) return formatPythonFloat(value.value);
  const inner = `${newline}  `;
  const isList = Array.isArray(value);
  const items = isList
    ? (value as readonly PythonJson[]).map((item) => format(item, inner))
    : Object.entries(value as { readonly [key: string]: PythonJson })
        .sort(([a], [b]) => compareBytes(a, b))
        .map(([key, item]) => `${formatString(key)}: ${format(item, inner)}`);
  const [open, close] = isList ? ["[", "]"] : ["{", "}"];
  return items.length === 0 ? open + close : `${open}${inner}${items.join(`,${inner}`)}${newline}${close}`;
}

/** Every UTF-16 unit outside printable ASCII is escaped. */
function formatString(text: string): string {
  return JSON.stringify(text).replaceAll(/[^ -~]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`);
}
