/**
 * Python's regular expressions over names, as `re.fullmatch` decides: from every position, the set of positions where a piece can
 * end. Nothing backtracks, so that no expression takes more than the product of its length and the text's squared.
 */
import { ConfigError } from "../errors.ts";
import { parsePythonRegex, type RegexNode, RegexProblem } from "./python-regex-parser.ts";

/** Far above what honest patterns of module names take. */
const MAX_STEPS = 20_000_000;

/**
 * Whether an expression matches the whole of a text.
 * @param option what the expression belongs to, for messages
 * @throws ConfigError TARGET_MODULES_INVALID naming the construct that Python refuses or that is not supported
 * @example pythonPattern(".*\\.(?P<proj>q|v)_proj", "targetModules")("model.layers.0.self_attn.q_proj"); // true
 */
export function pythonPattern(source: string, option: string): (text: string) => boolean {
  const fail = (problem: string, cause?: unknown): ConfigError =>
    new ConfigError("TARGET_MODULES_INVALID", `${option}: the regular expression ${shown(source)} ${problem}`, {
      hint: "Give a list of module names, or a regular expression that Python's re reads, without backreferences, conditionals, atomic groups and possessive quantifiers.",
      cause,
    });
  let tree: RegexNode;
  try {
    tree = parsePythonRegex(source);
  } catch (error) {
    if (error instanceof RegexProblem) throw fail(`is not read: ${error.message}`, error);
    throw error;
  }
  let steps = 0;
  const step = (): void => {
    if (++steps > MAX_STEPS) throw fail("takes too long");
  };
  return (text) => new Matcher(text, step).ends(tree, 0).has(text.length);
}

const shown = (source: string): string => JSON.stringify(source.length > 120 ? `${source.slice(0, 120)}...` : source);

class Matcher {
  readonly #known = new Map<RegexNode, Map<number, ReadonlySet<number>>>();

  constructor(
    private readonly text: string,
    private readonly step: () => void,
  ) {}

  /** Where `node` can end, begun at `start`. */
  ends(node: RegexNode, start: number): ReadonlySet<number> {
    let known = this.#known.get(node);
    if (known === undefined) this.#known.set(node, (known = new Map()));
    let found = known.get(start);
    if (found === undefined) known.set(start, (found = this.#find(node, start)));
    return found;
  }

  #endsOfAll(node: RegexNode, starts: Iterable<number>): Set<number> {
    const all = new Set<number>();
    for (const start of starts) {
      for (const end of this.ends(node, start)) {
        this.step();
        all.add(end);
      }
    }
    return all;
  }

  #find(node: RegexNode, start: number): ReadonlySet<number> {
    this.step();
    const { text } = this;
    switch (node.kind) {
      case "char":
        return new Set(start < text.length && node.matches(text[start]!) ? [start + 1] : []);
      case "at":
        return new Set(node.holds(text, start) ? [start] : []);
      case "look": {
        const there = node.behind ? this.#endsAt(node.item, start) : this.ends(node.item, start).size > 0;
        return new Set(there === node.negated ? [] : [start]);
      }
      case "sequence": {
        let now: ReadonlySet<number> = new Set([start]);
        for (const item of node.items) {
          if (now.size === 0) return now;
          now = this.#endsOfAll(item, now);
        }
        return now;
      }
      case "either":
        return new Set(node.items.flatMap((item) => [...this.ends(item, start)]));
      case "repeat":
        return this.#repeat(node, start);
    }
  }

  #endsAt(item: RegexNode, end: number): boolean {
    for (let from = end; from >= 0; from--) if (this.ends(item, from).has(end)) return true;
    return false;
  }

  #repeat({ item, least, most }: RegexNode & { kind: "repeat" }, start: number): ReadonlySet<number> {
    // Each round goes forward or stays: after so many, the set no longer changes.
    const rounds = 2 * (this.text.length + 2);
    let now = new Set([start]);
    for (let i = 0; i < Math.min(least, rounds) && now.size > 0; i++) now = this.#endsOfAll(item, now);
    const all = new Set(now);
    for (let i = least; i < Math.min(most, least + rounds) && now.size > 0; i++) {
      now = this.#endsOfAll(item, now).difference(all);
      for (const end of now) all.add(end);
    }
    return all;
  }
}
