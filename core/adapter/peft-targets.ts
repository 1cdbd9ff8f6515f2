/**
 * Which modules an adapter wraps, by PEFT's rules.
 * Source: huggingface/peft, tuners/tuners_utils.py (`check_target_module_exists`) and utils/other.py.
 */
import { ConfigError } from "../errors.ts";

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
 * The value that `rank_pattern` or `alpha_pattern` gives a module, else `fallback`. A key matches as the end of the
 * module's name from a dot on, as a regular expression; one that begins with "^" matches from the start.
 * @throws ConfigError TARGET_MODULES_INVALID where a key is no regular expression
 */
export function patternValue(pattern: Readonly<Record<string, number>>, name: string, fallback: number): number {
  for (const [key, value] of Object.entries(pattern)) {
    const source = key.startsWith("^") ? key : String.raw`^(?:.*\.)?(?:${key})$`;
    if (regularExpression(source, "rankPattern or alphaPattern").test(name)) return value;
  }
  return fallback;
}

function matcher(targets: string | readonly string[], option: string): (name: string) => boolean {
  if (typeof targets !== "string") return (name) => targets.some((target) => matchesName(name, target));
  const whole = regularExpression(`^(?:${targets})$`, option);
  return (name) => whole.test(name);
}

function matchesName(name: string, target: string): boolean {
  return name === target || name.endsWith(`.${target}`);
}

function hasLayers({ layersToTransform: layers }: TargetOptions): boolean {
  return layers !== undefined && layers !== null && !(typeof layers !== "number" && layers.length === 0);
}

/** The last number that follows `.<layersPattern>.` in the name decides, as with Python's greedy match. */
function inLayers(name: string, options: TargetOptions): boolean {
  if (!hasLayers(options)) return true;
  const patterns = [options.layersPattern ?? []].flat();
  const sources = patterns.length === 0 ? ["[^.]*"] : patterns;
  for (const source of sources) {
    const found = regularExpression(String.raw`^.*\.${source}\.(\d+)\.`, "layersPattern").exec(name);
    if (found !== null) return [options.layersToTransform].flat().includes(Number(found[1]));
  }
  return false;
}

function suffixes(names: readonly string[]): string[] {
  return [...new Set(names.map((name) => name.slice(name.lastIndexOf(".") + 1)))];
}

function regularExpression(source: string, option: string): RegExp {
  try {
    return new RegExp(source);
  } catch (error) {
    throw new ConfigError("TARGET_MODULES_INVALID", `${option}: ${(error as Error).message}`, {
      hint: "Give a list of module names, or a regular expression.",
      cause: error,
    });
  }
}
