/**
 * Which modules an adapter wraps, by PEFT's rules.
 * Source: huggingface/peft, tuners/tuners_utils.py (`check_target_module_exists`) and utils/other.py.
 */
import { ConfigError } from "../errors.ts";
import { pythonPattern } from "./python-regex.ts";

/** The part of an adapter's options that picks modules. */
export interface TargetOptions {
  /**
   * Names (a module matches when its full name equals one, or ends with "." and one), "all-linear", or a Python
   * regular expression that must match the full name.
   */
  readonly targetModules: string | readonly string[];
  /** As `targetModules`: names or a regular expression; what matches is left alone. */
  readonly excludeModules?: string | readonly string[] | null | undefined;
  /** Layer numbers to adapt; absent or empty means all. */
  readonly layersToTransform?: number | readonly number[] | null | undefined;
  /** Name of the list that holds the layers, such as "layers"; absent means any. */
  readonly layersPattern?: string | readonly string[] | null | undefined;
  /** Modules trained whole and never adapted, such as the score head. */
  readonly modulesToSave?: readonly string[] | null | undefined;
}

/** What {@link matchTargets} found. */
export interface TargetMatch {
  /** Names of the modules to adapt, in the order they were given. */
  readonly matched: readonly string[];
  /** Entries of `targetModules` that matched nothing; PEFT passes over them. */
  readonly unmatchedTargets: readonly string[];
}

/**
 * Picks the modules to adapt.
 * @param names full names of the model's linears, such as `model.layers.0.self_attn.q_proj`
 * @throws ConfigError TARGET_MODULES_INVALID where nothing matches or a regular expression is broken
 */
export function matchTargets(names: readonly string[], options: TargetOptions): TargetMatch {
  const targets = expandTargets(names, options);
  if (typeof targets === "string" && hasLayers(options)) {
    throw new ConfigError("TARGET_MODULES_INVALID", "layersToTransform cannot be used with a regular expression", {
      hint: "Give targetModules as a list of names, or put the layer numbers into the expression.",
    });
  }
  const isTarget = matcher(targets, "targetModules");
  // A module named in full is meant, whatever its layer.
  const isNamed = (name: string) => typeof targets !== "string" && targets.includes(name);
  const isExcluded = matcher(options.excludeModules ?? [], "excludeModules");
  const isSaved = matcher(options.modulesToSave ?? [], "modulesToSave");
  const matched = names.filter(
    (name) => isTarget(name) && !isExcluded(name) && !isSaved(name) && (isNamed(name) || inLayers(name, options)),
  );
  if (matched.length === 0) {
    const limits = [
      ...(hasLayers(options) ? [`layersToTransform ${JSON.stringify(options.layersToTransform)}`] : []),
      ...(options.excludeModules ? [`excludeModules ${JSON.stringify(options.excludeModules)}`] : []),
    ];
    const within = limits.length === 0 ? "" : ` within ${limits.join(" and ")}`;
    throw new ConfigError(
      "TARGET_MODULES_INVALID",
      `targetModules ${JSON.stringify(options.targetModules)} match none of the model's ${names.length} linear layers${within}`,
      { hint: `The model's linear layers are called ${suffixes(names).join(", ")}.` },
    );
  }
  const isMatched = (target: string) => matched.some((name) => matchesName(name, target));
  return { matched, unmatchedTargets: typeof targets === "string" ? [] : targets.filter((t) => !isMatched(t)) };
}

/**
 * `targetModules` as PEFT saves it: "all-linear" becomes the last parts of the linears' names, without the head and
 * what is trained whole; one word becomes a list of it (as an expression for whole names, which PEFT takes it for, it matches
 * nothing); anything else stays.
 */
export function expandTargets(
  names: readonly string[],
  { targetModules, modulesToSave }: Pick<TargetOptions, "targetModules" | "modulesToSave">,
): string | readonly string[] {
  if (typeof targetModules !== "string") return targetModules;
  if (/^\w+$/.test(targetModules)) return [targetModules];
  if (targetModules.toLowerCase() !== "all-linear") return targetModules;
  const heads = ["lm_head", "score", "classifier", ...(modulesToSave ?? [])];
  return suffixes(names.filter((name) => !heads.some((head) => matchesName(name, head))));
}

/**
 * The value that `rank_pattern` or `alpha_pattern` gives a module, else `fallback`. A key is a regular expression that matches the
 * module's name, or its end from a dot on; one that begins with "^" matches from the start.
 * @throws ConfigError TARGET_MODULES_INVALID where a key is no regular expression
 */
export function patternValue(pattern: Readonly<Record<string, number>>, name: string, fallback: number): number {
  let rules = compiled.get(pattern);
  if (rules === undefined) {
    rules = Object.entries(pattern).map(([key, value]) => [endPattern(key), value] as const);
    compiled.set(pattern, rules);
  }
  return rules.find(([matches]) => matches(name))?.[1] ?? fallback;
}

/** PEFT's searches write a key for each module: each is read once, not once for each module. */
const compiled = new WeakMap<object, readonly (readonly [(name: string) => boolean, number])[]>();

function endPattern(key: string): (name: string) => boolean {
  if (!/^[\w.]+$/.test(key)) return pythonPattern(String.raw`(?:.*\.)?(?:${key})$`, "rankPattern or alphaPattern");
  // A name in full, whose dots stand for any character.
  return (name) => {
    const start = name.length - key.length;
    if (start < 0 || (start > 0 && name[start - 1] !== ".")) return false;
    return Array.from(key).every((char, i) => char === "." || char === name[start + i]);
  };
}

function matcher(targets: string | readonly string[], option: string): (name: string) => boolean {
  if (typeof targets !== "string") return (name) => targets.some((target) => matchesName(name, target));
  return pythonPattern(targets, option);
}

function matchesName(name: string, target: string): boolean {
  return name === target || name.endsWith(`.${target}`);
}

function hasLayers({ layersToTransform: layers }: TargetOptions): boolean {
  return layers !== undefined && layers !== null && !(typeof layers !== "number" && layers.length === 0);
}

/** The last number between dots that follows `.<layersPattern>.` in the name decides, as with Python's greedy match. */
function inLayers(name: string, options: TargetOptions): boolean {
  if (!hasLayers(options)) return true;
  const patterns = [options.layersPattern ?? []].flat();
  const sources = patterns.length === 0 ? ["[^.]*"] : patterns;
  const numbers = [...name.matchAll(/(?<=\.)\d+(?=\.)/g)].reverse();
  for (const source of sources) {
    const before = pythonPattern(String.raw`.*\.${source}\.`, "layersPattern");
    const found = numbers.find(({ index }) => before(name.slice(0, index)));
    if (found !== undefined) return [options.layersToTransform].flat().includes(Number(found[0]));
  }
  return false;
}

function suffixes(names: readonly string[]): string[] {
  return [...new Set(names.map((name) => name.slice(name.lastIndexOf(".") + 1)))];
}
