/** Seeded damage for fuzzed inputs: bytes, lines of text, and JSON as a tree that may repeat keys and hold `__proto__`. */
import { random } from "../support/random.ts";

/** Choices drawn from one seed. */
export interface Dice {
  /** A whole number in [0, n). */
  below(n: number): number;
  pick<T>(items: readonly T[]): T;
  chance(p: number): boolean;
}

export function dice(seed: number): Dice {
  const next = random(seed);
  const below = (n: number): number => Math.floor(next() * n);
  return { below, pick: (items) => items[below(items.length)]!, chance: (p) => next() < p };
}

/** 32 bits of a text, to derive a target's seed from its name (FNV-1a). */
export function hash(text: string): number {
  let state = 0x811c9dc5;
  for (const byte of new TextEncoder().encode(text)) state = Math.imul(state ^ byte, 0x01000193) >>> 0;
  return state;
}

const bytesOf = (text: string): Uint8Array => new TextEncoder().encode(text);

function concat(...parts: readonly Uint8Array[]): Uint8Array {
  const out = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}

/** No input grows past this, so that a bound on time means something. */
const MAX_BYTES = 1 << 20;

/** Flips, cuts, repeats, overwrites or splices bytes, one to four times. */
export function mutateBytes(input: Uint8Array, roll: Dice, other: Uint8Array = input): Uint8Array {
  let bytes: Uint8Array = Uint8Array.from(input);
  for (let round = 1 + roll.below(4); round > 0; round--) {
    const at = roll.below(bytes.length + 1);
    const length = roll.pick([1, 2, 4, 8, 64, 1024]);
    switch (roll.below(9)) {
      case 0: // one bit
        if (at < bytes.length) bytes[at]! ^= 1 << roll.below(8);
        break;
      case 1: // one byte
        if (at < bytes.length) bytes[at] = roll.pick([0, 1, 9, 10, 13, 34, 44, 92, 123, 127, 128, 254, 255]);
        break;
      case 2: // cut off
        bytes = bytes.slice(0, at);
        break;
      case 3: // cut out
        bytes = concat(bytes.subarray(0, at), bytes.subarray(at + length));
        break;
      case 4: // repeat a part
        bytes = concat(bytes.subarray(0, at), bytes.subarray(Math.max(0, at - length)));
        break;
      case 5: {
        // the end of another input
        const from = roll.below(other.length + 1);
        bytes = concat(bytes.subarray(0, at), other.subarray(from));
        break;
      }
      case 6: {
        // a little-endian number, as lengths and offsets are
        const number = roll.pick([0n, 1n, 0xffn, 0x7fffffffn, 0xffffffffn, 2n ** 53n, 2n ** 63n - 1n, 2n ** 64n - 1n]);
        const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
        const start = roll.chance(0.5) ? 0 : at;
        if (start + 8 <= bytes.length) view.setBigUint64(start, number, true);
        break;
      }
      case 7: // noise
        bytes = concat(
          bytes.subarray(0, at),
          Uint8Array.from({ length }, () => roll.below(256)),
          bytes.subarray(at),
        );
        break;
      default: // a long run of one byte
        bytes = concat(
          bytes.subarray(0, at),
          new Uint8Array(roll.pick([100, 10_000, 100_000])).fill(roll.pick([0, 32, 34, 65, 91, 123])),
          bytes.subarray(at),
        );
    }
  }
  return bytes.subarray(0, MAX_BYTES);
}

const WORDS = [
  "\r",
  "\n",
  "\r\n",
  "\r\r\n",
  "\t",
  " ",
  "\0",
  "\uFEFF",
  "\u2028",
  "\u00A0",
  '"',
  '""',
  "'",
  ",",
  ",,",
  ";",
  "\\",
  "#",
  "NaN",
  "nan",
  "Infinity",
  "-inf",
  "1e999",
  "-0",
  "0x10",
  "1e-400",
  "9007199254740993",
  "1790000000000000123",
  "1_000",
  "null",
  "None",
  "true",
  "False",
  "undefined",
  "[object Object]",
  "__proto__",
  "constructor",
  "prototype",
  "toString",
  "../../x",
  "/etc/passwd",
  "file:///x",
  "%00",
  "%s%n",
  "${x}",
  "\u{1F600}",
  "\uD800",
  "e\u0301",
  "[",
  "]",
  "{",
  "}",
  "--",
  "=",
];

/** Puts odd words, line ends and quotes in, or moves, doubles and drops lines; now and then damages bytes. */
export function mutateText(text: string, roll: Dice, other = text): string {
  let out = text;
  for (let round = 1 + roll.below(4); round > 0; round--) {
    const at = roll.below(out.length + 1);
    const to = at + roll.below(Math.min(out.length - at, 80) + 1);
    const lines = out.split("\n");
    const line = roll.below(lines.length);
    switch (roll.below(9)) {
      case 0:
        out = out.slice(0, at) + roll.pick(WORDS) + out.slice(at);
        break;
      case 1:
        out = out.slice(0, at) + roll.pick(WORDS) + out.slice(to);
        break;
      case 2:
        out = out.slice(0, at);
        break;
      case 3:
        out = out.slice(0, at) + out.slice(to);
        break;
      case 4:
        out = out.replaceAll("\n", () => roll.pick(["\n", "\r\n", "\r", "\n\n", "\r\r\n"]));
        break;
      case 5:
        out = lines.toSpliced(line, 0, lines[roll.below(lines.length)]!).join("\n");
        break;
      case 6:
        out = lines.toSpliced(line, 1).join("\n");
        break;
      case 7:
        out = out.slice(0, at) + other.slice(roll.below(other.length + 1));
        break;
      default:
        out = out.slice(0, at) + roll.pick(WORDS).repeat(roll.pick([2, 50, 5000])) + out.slice(at);
    }
    out = out.slice(0, MAX_BYTES);
  }
  return roll.chance(0.1) ? new TextDecoder().decode(mutateBytes(bytesOf(out), roll)) : out;
}

/** JSON as a tree of its own: JavaScript objects can neither repeat a key nor keep their order where keys are numbers. */
type Node = { readonly list: Node[] } | { readonly entries: [key: string, value: Node][] } | { readonly text: string };

function treeOf(value: unknown): Node {
  if (Array.isArray(value)) return { list: value.map(treeOf) };
  if (typeof value === "object" && value !== null)
    return { entries: Object.entries(value).map(([key, inner]) => [key, treeOf(inner)]) };
  return { text: JSON.stringify(value) };
}

function write(node: Node): string {
  if ("list" in node) return `[${node.list.map(write).join(",")}]`;
  if ("entries" in node)
    return `{${node.entries.map(([key, value]) => `${JSON.stringify(key)}:${write(value)}`).join(",")}}`;
  return node.text;
}

const SCALARS = [
  "null",
  "true",
  "false",
  "0",
  "-0",
  "1",
  "-1",
  "2",
  "0.5",
  "1e308",
  "-1e308",
  "1e-320",
  "9007199254740992",
  "9007199254740993",
  "1000000000",
  "4294967296",
  "2147483648",
  "-9223372036854775808",
  "1e999",
  '""',
  '" "',
  '"0"',
  '"nan"',
  '"__proto__"',
  '"constructor"',
  '"../../etc/passwd"',
  '"/dev/zero"',
  '"(a+)+$"',
  '"\\u0000"',
  '"\\ud800"',
  '"F32"',
  "[]",
  "{}",
  "[null]",
  "[[]]",
  '{"":{}}',
  '{"__proto__":{"polluted":true}}',
  '{"length":1e9}',
  `"${"x".repeat(9000)}"`,
];

const KEYS = [
  "__proto__",
  "constructor",
  "prototype",
  "toString",
  "hasOwnProperty",
  "then",
  "length",
  "toJSON",
  "",
  "0",
  "a.b",
  "x".repeat(300),
];

/** Every place of a tree that holds others. */
function holders(node: Node): Node[] {
  if ("list" in node) return [node, ...node.list.flatMap(holders)];
  if ("entries" in node) return [node, ...node.entries.flatMap(([, value]) => holders(value))];
  return [];
}

function deep(roll: Dice): Node {
  const depth = roll.pick([10, 1000, 100_000]);
  const [open, close] = roll.pick([
    ["[", "]"],
    ['{"a":', "}"],
  ] as const);
  return { text: open.repeat(depth) + (open === "[" ? "" : "0") + close.repeat(depth) };
}

const scalar = (roll: Dice): Node => (roll.chance(0.03) ? deep(roll) : { text: roll.pick(SCALARS) });

function changeEntries(entries: [string, Node][], roll: Dice): void {
  const at = roll.below(Math.max(1, entries.length));
  const entry = entries[at];
  switch (entry === undefined ? 3 : roll.below(8)) {
    case 0:
      entries.splice(at, 1);
      break;
    case 1: // the same key twice
      entries.push([entry![0], scalar(roll)]);
      break;
    case 2:
      entry![0] = roll.pick(KEYS);
      break;
    case 3:
      entries.push([roll.pick(KEYS), scalar(roll)]);
      break;
    case 4:
      entry![1] = { list: [entry![1]] };
      break;
    case 5: // the value of another key
      entry![1] = roll.pick(entries)[1];
      break;
    default:
      entry![1] = scalar(roll);
  }
}

function changeList(list: Node[], roll: Dice): void {
  const at = roll.below(Math.max(1, list.length));
  switch (list.length === 0 ? 1 : roll.below(4)) {
    case 0:
      list.splice(at, 1);
      break;
    case 1:
      list.splice(at, 0, scalar(roll));
      break;
    case 2:
      list.push(...Array.from({ length: roll.pick([1, 10, 1000]) }, () => list[at]!));
      break;
    default:
      list[at] = scalar(roll);
  }
}

/** JSON text whose types, keys or structure changed: still JSON, as any other program may write it. */
export function mutateJson(json: string, roll: Dice): string {
  let root = treeOf(JSON.parse(json));
  for (let round = 1 + roll.below(4); round > 0; round--) {
    const places = holders(root);
    if (places.length === 0 || roll.chance(0.02)) root = scalar(roll);
    else {
      const place = roll.pick(places);
      if ("list" in place) changeList(place.list, roll);
      else if ("entries" in place) changeEntries(place.entries, roll);
    }
  }
  return write(root).slice(0, MAX_BYTES);
}

/** A safetensors file: its header changed as JSON with the length made to fit, or any of its bytes. */
export function mutateSafetensors(file: Uint8Array, roll: Dice, other = file): Uint8Array {
  if (roll.chance(0.3)) return mutateBytes(file, roll, other);
  const length = Number(new DataView(file.buffer, file.byteOffset, file.length).getBigUint64(0, true));
  const header = new TextDecoder().decode(file.subarray(8, 8 + length));
  const changed = bytesOf(roll.chance(0.8) ? mutateJson(header, roll) : mutateText(header, roll));
  const prefix = new Uint8Array(8);
  new DataView(prefix.buffer).setBigUint64(0, BigInt(changed.length), true);
  const data = file.subarray(8 + length);
  return concat(prefix, changed, roll.chance(0.1) ? data.subarray(0, roll.below(data.length + 1)) : data);
}
