/** Option values from the command line, where everything is a string. */
import { formatValue } from "./describe.ts";
import type { Checked, Option } from "./options.ts";

function asNumber(text: string): number | undefined {
  const value = text.trim() === "" ? Number.NaN : Number(text); // Number takes 3e-4, which a numeric pattern refuses
  return Number.isFinite(value) ? value : undefined;
}

function asJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined; // not JSON: another reading of the text may fit
  }
}

/** Every way to read `text`, the likeliest first; undefined entries are readings that do not exist. */
function readings(text: string): unknown[] {
  const items = text.split(",").map((item) => item.trim());
  const numbers = items.map(asNumber);
  const lists = items.includes("") ? [] : [numbers.includes(undefined) ? undefined : numbers, items];
  const word = text.toLowerCase(); // Python's True and False too
  const truth = word === "true" ? true : word === "false" ? false : undefined;
  const plain = [asNumber(text), truth, text];
  if (/^\s*[[{"]/.test(text)) return [asJson(text), ...plain, ...lists];
  return text.includes(",") ? [...lists, ...plain] : [...plain, ...lists];
}

/** True where the flag may stand alone (`--shuffle`) and be denied (`--no-shuffle`). */
export const isSwitch = (option: Option): boolean => option.accepts(true);

/** True where the flag takes a value; a plain boolean does not. */
export const takesValue = (option: Option): boolean => option.definition !== "boolean";

/**
 * Reads one flag's text as the option's type: numbers (`3e-4`), booleans, comma lists for arrays, JSON for the rest.
 * `name` is the flag as it was written, for the message.
 */
export function readOptionText(option: Option, text: string, name: string): Checked<unknown> {
  // An empty text is a shell variable that is not set, and no value of any option.
  const tried = text.trim() === "" ? [] : readings(text);
  const value = tried.find((reading) => reading !== undefined && option.accepts(reading));
  if (value !== undefined) return { ok: true, value };
  return { ok: false, problems: [`${name}: got ${formatValue(text)}, expected ${option.expected}`] };
}
