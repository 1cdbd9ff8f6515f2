/** Python's regular expressions as a tree: what its `re` reads, less what cannot be matched without backtracking. */

/** A piece of an expression. */
export type RegexNode =
  | { readonly kind: "char"; readonly matches: (char: string) => boolean }
  | { readonly kind: "sequence"; readonly items: readonly RegexNode[] }
  | { readonly kind: "either"; readonly items: readonly RegexNode[] }
  | { readonly kind: "repeat"; readonly item: RegexNode; readonly least: number; readonly most: number }
  | { readonly kind: "at"; readonly holds: (text: string, position: number) => boolean }
  | { readonly kind: "look"; readonly item: RegexNode; readonly behind: boolean; readonly negated: boolean };

/** An expression that Python's `re` refuses, or a construct that is not supported; the message names it. */
export class RegexProblem extends Error {}

/** Flags that change what a piece matches. */
interface Flags {
  readonly ignoreCase: boolean;
  readonly dotAll: boolean;
  readonly multiLine: boolean;
  readonly verbose: boolean;
}

const NO_FLAGS: Flags = { ignoreCase: false, dotAll: false, multiLine: false, verbose: false };
const DEEPEST = 200;
const LONGEST = 10_000;

/** What repeats the piece before it. */
const REPEAT = /[*+?]|\{(\d*),(\d*)\}|\{(\d+)\}/;

const isDigit = (char: string): boolean => /\p{Nd}/u.test(char);
const isWord = (char: string): boolean => /[\p{L}\p{N}_]/u.test(char);
const isSpace = (char: string): boolean =>
  "\u001c\u001d\u001e\u001f\u0085".includes(char) || (/\s/.test(char) && char !== "\uFEFF");
const not =
  (test: (char: string) => boolean) =>
  (char: string): boolean =>
    !test(char);
const CLASSES: ReadonlyMap<string, (char: string) => boolean> = new Map([
  ["d", isDigit],
  ["D", not(isDigit)],
  ["w", isWord],
  ["W", not(isWord)],
  ["s", isSpace],
  ["S", not(isSpace)],
]);
const CONTROLS: ReadonlyMap<string, string> = new Map([
  ["n", "\n"],
  ["t", "\t"],
  ["r", "\r"],
  ["f", "\f"],
  ["v", "\v"],
  ["a", "\u0007"],
]);

/** @throws RegexProblem */
export function parsePythonRegex(source: string): RegexNode {
  if (source.length > LONGEST) throw new RegexProblem(`has ${source.length} characters, expected at most ${LONGEST}`);
  return new Parser(source).parse();
}

class Parser {
  #at = 0;
  #depth = 0;

  constructor(private readonly source: string) {}

  parse(): RegexNode {
    const node = this.#either(this.#globalFlags());
    if (this.#at < this.source.length) throw this.#problem("unbalanced parenthesis");
    return node;
  }

  #problem(what: string): RegexProblem {
    return new RegexProblem(`${what} at position ${this.#at}`);
  }

  #peek(text: string): boolean {
    return this.source.startsWith(text, this.#at);
  }

  #take(text: string): boolean {
    if (!this.#peek(text)) return false;
    this.#at += text.length;
    return true;
  }

  #takeMatch(pattern: RegExp): RegExpExecArray | undefined {
    const found = new RegExp(pattern.source, `y${pattern.flags}`);
    found.lastIndex = this.#at;
    const match = found.exec(this.source);
    if (match === null) return undefined;
    this.#at += match[0].length;
    return match;
  }

  /** Comments, and white space where the flag x says so. */
  #skip({ verbose }: Flags): void {
    while (this.#takeMatch(verbose ? /\(\?#[^)]*\)|\s+|#[^\n]*/ : /\(\?#[^)]*\)/) !== undefined);
  }

  /** `(?i)` at the start of an expression is of the whole of it. */
  #globalFlags(): Flags {
    let flags = NO_FLAGS;
    for (;;) {
      this.#skip(flags);
      const match = this.#takeMatch(/\(\?([aiLmsux]+)\)/);
      if (match === undefined) return flags;
      flags = withFlags(flags, match[1]!, "");
    }
  }

  #either(flags: Flags): RegexNode {
    if (++this.#depth > DEEPEST) throw this.#problem(`groups nested more than ${DEEPEST} deep`);
    const items = [this.#sequence(flags)];
    while (this.#take("|")) items.push(this.#sequence(flags));
    this.#depth--;
    return items.length === 1 ? items[0]! : { kind: "either", items };
  }

  #sequence(flags: Flags): RegexNode {
    const items: RegexNode[] = [];
    for (;;) {
      this.#skip(flags);
      if (this.#at >= this.source.length || this.#peek("|") || this.#peek(")")) break;
      items.push(this.#repeated(this.#atom(flags), flags));
    }
    return { kind: "sequence", items };
  }

  #repeated(item: RegexNode, flags: Flags): RegexNode {
    this.#skip(flags);
    const range = this.#takeMatch(REPEAT);
    if (range === undefined) return item;
    const [least, most] = bounds(range);
    if (least > most) throw this.#problem("min repeat greater than max repeat");
    if (this.#take("+")) throw this.#problem("a possessive quantifier, which is not supported,");
    this.#take("?"); // lazy or greedy: whether the whole matches is the same
    if (item.kind === "at") throw this.#problem("nothing to repeat");
    this.#skip(flags);
    if (this.#takeMatch(REPEAT) !== undefined) throw this.#problem("multiple repeat");
    return { kind: "repeat", item, least, most };
  }

  #atom(flags: Flags): RegexNode {
    if (this.#takeMatch(REPEAT) !== undefined) throw this.#problem("nothing to repeat");
    const char = this.#next();
    switch (char) {
      case "(":
        return this.#group(flags);
      case "[":
        return this.#set(flags);
      case ".":
        return { kind: "char", matches: flags.dotAll ? () => true : (c) => c !== "\n" };
      case "^":
        return { kind: "at", holds: (text, i) => i === 0 || (flags.multiLine && text[i - 1] === "\n") };
      case "$":
        return {
          kind: "at",
          holds: (text, i) => i === text.length || (text[i] === "\n" && (flags.multiLine || i === text.length - 1)),
        };
      case "\\":
        return this.#escape(flags);
      default:
        return literal(char, flags);
    }
  }

  #next(): string {
    const char = this.source[this.#at];
    if (char === undefined) throw this.#problem("unexpected end of pattern");
    this.#at++;
    return char;
  }

  #group(flags: Flags): RegexNode {
    const close = (item: RegexNode): RegexNode => {
      if (!this.#take(")")) throw this.#problem("missing ), unterminated subpattern");
      return item;
    };
    const look = (behind: boolean, negated: boolean): RegexNode => ({
      kind: "look",
      item: close(this.#either(flags)),
      behind,
      negated,
    });
    if (!this.#take("?")) return close(this.#either(flags));
    if (this.#take(":")) return close(this.#either(flags));
    if (this.#take("=")) return look(false, false);
    if (this.#take("!")) return look(false, true);
    if (this.#take("<=")) return look(true, false);
    if (this.#take("<!")) return look(true, true);
    if (this.#takeMatch(/P<[\p{L}_][\p{L}\p{N}_]*>/u) !== undefined) return close(this.#either(flags));
    const scoped = this.#takeMatch(/([aiLmsux]*)(?:-([imsx]+))?:/);
    if (scoped !== undefined) return close(this.#either(withFlags(flags, scoped[1]!, scoped[2] ?? "")));
    if (this.#peek("P=")) throw this.#problem("a backreference (?P=name), which is not supported,");
    if (this.#peek("(")) throw this.#problem("a conditional (?(1)...), which is not supported,");
    if (this.#peek(">")) throw this.#problem("an atomic group (?>...), which is not supported,");
    throw this.#problem(`unknown extension ?${this.source[this.#at] ?? ""}`);
  }

  #escape(flags: Flags): RegexNode {
    const char = this.#next();
    const edge = (text: string, i: number): boolean =>
      (i > 0 && isWord(text[i - 1]!)) !== (i < text.length && isWord(text[i]!));
    if (char === "A") return { kind: "at", holds: (_, i) => i === 0 };
    if (char === "Z") return { kind: "at", holds: (text, i) => i === text.length };
    if (char === "b") return { kind: "at", holds: edge };
    if (char === "B") return { kind: "at", holds: (text, i) => text !== "" && !edge(text, i) };
    if (/[1-9]/.test(char)) throw this.#problem(`a backreference \\${char}, which is not supported,`);
    const test = CLASSES.get(char);
    return test === undefined ? literal(this.#escaped(char), flags) : { kind: "char", matches: test };
  }

  /** The character that `\` and what follows stand for. */
  #escaped(char: string): string {
    const control = CONTROLS.get(char);
    if (control !== undefined) return control;
    const digits = { x: /[0-9a-fA-F]{2}/, u: /[0-9a-fA-F]{4}/ }[char];
    if (digits !== undefined) {
      const code = this.#takeMatch(digits);
      if (code === undefined) throw this.#problem(`incomplete escape \\${char}`);
      return String.fromCharCode(Number.parseInt(code[0], 16));
    }
    if (char === "0") return String.fromCharCode(Number.parseInt(`0${this.#takeMatch(/[0-7]{1,2}/)?.[0] ?? ""}`, 8));
    if (/[A-Za-z]/.test(char)) throw this.#problem(`bad escape \\${char}`);
    return char;
  }

  /** `[...]`; a `]` that comes first is one of its characters. */
  #set(flags: Flags): RegexNode {
    const negated = this.#take("^");
    const tests: ((char: string) => boolean)[] = [];
    for (let first = true; first || !this.#take("]"); first = false) {
      const low = this.#member();
      if (typeof low !== "string" || !this.#peek("-") || this.source[this.#at + 1] === "]") {
        tests.push(typeof low === "string" ? sameChar(low, flags) : low);
        continue;
      }
      this.#at++;
      const high = this.#member();
      if (typeof high !== "string" || high < low) throw this.#problem("bad character range");
      const within = (char: string): boolean => char >= low && char <= high;
      tests.push(flags.ignoreCase ? (char) => within(char.toLowerCase()) || within(char.toUpperCase()) : within);
    }
    return { kind: "char", matches: (char) => tests.some((test) => test(char)) !== negated };
  }

  #member(): string | ((char: string) => boolean) {
    if (this.#at >= this.source.length) throw this.#problem("unterminated character set");
    const char = this.#next();
    if (char !== "\\") return char;
    const escaped = this.#next();
    if (escaped === "b") return "\b";
    return CLASSES.get(escaped) ?? this.#escaped(escaped);
  }
}

function bounds([text, from, to, exact]: RegExpExecArray): [least: number, most: number] {
  if (text === "*") return [0, Infinity];
  if (text === "+") return [1, Infinity];
  if (text === "?") return [0, 1];
  if (exact !== undefined) return [Number(exact), Number(exact)];
  return [Number(from), to === "" ? Infinity : Number(to)];
}

function withFlags(flags: Flags, on: string, off: string): Flags {
  if (on.includes("L")) throw new RegexProblem("the flag L, which is not for text,");
  const set = (letter: string, now: boolean): boolean => (now || on.includes(letter)) && !off.includes(letter);
  return {
    ignoreCase: set("i", flags.ignoreCase),
    dotAll: set("s", flags.dotAll),
    multiLine: set("m", flags.multiLine),
    verbose: set("x", flags.verbose),
  };
}

const sameChar = (char: string, { ignoreCase }: Flags): ((other: string) => boolean) =>
  ignoreCase ? (other) => other.toLowerCase() === char.toLowerCase() : (other) => other === char;

const literal = (char: string, flags: Flags): RegexNode => ({ kind: "char", matches: sameChar(char, flags) });
