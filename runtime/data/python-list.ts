/** Lists of strings as Python prints them, `['a', "it's", None]`: what pandas writes to a CSV of a column of lists. */

const ESCAPES: Readonly<Record<string, string>> = {
  "\n": "",
  "\\": "\\",
  "'": "'",
  '"': '"',
  a: "\x07",
  b: "\b",
  f: "\f",
  n: "\n",
  r: "\r",
  t: "\t",
  v: "\v",
};

const NOTHING = /None|null/y;
const SPACE = /\s*/y;
const CODE = { x: /[\da-f]{2}/iy, u: /[\da-f]{4}/iy, U: /[\da-f]{8}/iy } as const;
const OCTAL = /[0-7]{1,3}/y;

/** What a pattern finds exactly at `at`. */
function matchAt(pattern: RegExp, text: string, at: number): RegExpExecArray | null {
  pattern.lastIndex = at;
  return pattern.exec(text);
}

/** The value of a string's inside, as Python reads it; undefined for an escape that Python refuses. */
function unescape(text: string): string | undefined {
  if (!text.includes("\\")) return text;
  let out = "";
  for (let at = 0; at < text.length;) {
    const slash = text.indexOf("\\", at);
    if (slash < 0) return out + text.slice(at);
    out += text.slice(at, slash);
    const letter = text[slash + 1]!;
    at = slash + 2;
    const octal = matchAt(OCTAL, text, slash + 1)?.[0];
    if (octal !== undefined) {
      out += String.fromCodePoint(Number.parseInt(octal, 8));
      at = slash + 1 + octal.length;
    } else if (letter === "x" || letter === "u" || letter === "U") {
      const digits = matchAt(CODE[letter], text, at)?.[0];
      const code = Number.parseInt(digits ?? "", 16);
      if (!(code <= 0x10ffff)) return undefined;
      out += String.fromCodePoint(code);
      at += digits!.length;
    } else out += ESCAPES[letter] ?? `\\${letter}`;
  }
  return out;
}

/** One past the closing quote of the string that starts at `at`; undefined where it does not end in its line. */
function stringEnd(text: string, at: number): number | undefined {
  const quote = text[at];
  for (let i = at + 1; i < text.length; i++) {
    if (text[i] === quote) return i + 1;
    if (text[i] === "\\") i++;
    else if (text[i] === "\n") return undefined;
  }
  return undefined;
}

/** The item at `at` and the place after it; undefined for what is neither string nor None. */
function readItem(text: string, at: number): { readonly item: string | null; readonly end: number } | undefined {
  if (text[at] !== "'" && text[at] !== '"') {
    const nothing = matchAt(NOTHING, text, at)?.[0];
    return nothing === undefined ? undefined : { item: null, end: at + nothing.length };
  }
  const end = stringEnd(text, at);
  const item = end === undefined ? undefined : unescape(text.slice(at + 1, end - 1));
  return item === undefined ? undefined : { item, end: end! };
}

/** Strings of a list, null for None; undefined for what is no such list, strings without a comma between them included. */
export function parsePythonList(text: string): (string | null)[] | undefined {
  const skip = (at: number): number => at + matchAt(SPACE, text, at)![0].length;
  let at = skip(0);
  if (text[at] !== "[") return undefined;
  at = skip(at + 1);
  const items: (string | null)[] = [];
  while (text[at] !== "]") {
    const read = readItem(text, at);
    if (read === undefined) return undefined;
    items.push(read.item);
    at = skip(read.end);
    if (text[at] === ",") at = skip(at + 1);
    else if (text[at] !== "]") return undefined;
  }
  return skip(at + 1) === text.length ? items : undefined;
}
