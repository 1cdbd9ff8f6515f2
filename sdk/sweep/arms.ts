/** The arms of a sweep: which values each of them lays over the config. */
import { ConfigError } from "../../core/errors.ts";
import { isObject } from "../../core/formats/json-object.ts";
import { formatValue } from "../../core/options/describe.ts";
import { unknownKeys } from "../../core/util/suggest.ts";
import { uniformValues } from "../../core/util/random.ts";
import { type Config, type ConfigInput, defineConfig } from "../../runtime/config/config.ts";

/** A range that values are drawn from, for random search and halving. */
export interface SweepRange {
  readonly min: number;
  readonly max: number;
  /** Even in the number, or in its logarithm. Default linear. */
  readonly scale?: "linear" | "log" | undefined;
  /** Whole numbers only. */
  readonly integer?: boolean | undefined;
}

/** What a sweep tries; plain JSON. */
export interface SweepPlan {
  /** Default grid: every combination. random: `trials` of them. halving: random, and the worse of them stop early. */
  readonly method?: "grid" | "random" | "halving" | undefined;
  /** By option, such as `training.learningRate` or `adapter.rank`: a list of values, or a range. */
  readonly parameters: Readonly<Record<string, readonly unknown[] | SweepRange>>;
  /** Arms of random and halving. Default 8. */
  readonly trials?: number | undefined;
  /** Seed of the draws. Default 42. */
  readonly seed?: number | undefined;
  /** halving: one in so many arms goes on. Default 3. */
  readonly eta?: number | undefined;
  /** halving: optimizer steps before arms are first compared. */
  readonly minSteps?: number | undefined;
}

/** Values of one arm by option. */
export type ArmValues = Readonly<Record<string, unknown>>;

/** One arm of a sweep. */
export interface SweepArm {
  readonly arm: number;
  readonly values: ArmValues;
  /** Its run's folder. */
  readonly outputDir: string;
  /** Optimizer steps done. */
  readonly steps: number;
  /** The number that arms are compared by; undefined where it has not been evaluated. */
  readonly value: number | undefined;
  /** `stopped`: the worse of a halving sweep. `waiting`: not done yet. */
  readonly state: "done" | "stopped" | "waiting";
}

const KEYS = ["method", "parameters", "trials", "seed", "eta", "minSteps"];
const SECTIONS = ["data", "training", "device"] as const;
const PLUGINS = ["model", "adapter", "optimizer"] as const;
/** More are a mistake, or a sweep that nobody waits for. */
const MAX_ARMS = 1000;

const isRange = (value: unknown): value is SweepRange =>
  isObject(value) && typeof value["min"] === "number" && typeof value["max"] === "number";

/** @throws ConfigError listing every problem of a plan */
export function checkPlan(plan: unknown): SweepPlan {
  if (!isObject(plan)) throw new ConfigError("SWEEP_INVALID", `sweep: got ${formatValue(plan)}, expected an object`);
  const problems = unknownKeys(plan, KEYS, "option", (key) => `sweep.${key}`);
  const { method = "grid", parameters } = plan;
  const isHalving = method === "halving";
  if (method !== "grid" && method !== "random" && !isHalving)
    problems.push(`sweep.method: got ${formatValue(method)}, expected "grid", "random" or "halving"`);
  for (const [key, least] of [
    ["trials", 1],
    ["seed", 0],
    ["eta", 2],
    ["minSteps", 1],
  ] as const) {
    const value = plan[key];
    if (value !== undefined && !(Number.isSafeInteger(value) && Number(value) >= least))
      problems.push(`sweep.${key}: got ${formatValue(value)}, expected a whole number of at least ${least}`);
  }
  if (method === "grid" && plan["trials"] !== undefined)
    problems.push("sweep.trials: got it with method grid, which tries every combination");
  if (isHalving && plan["minSteps"] === undefined)
    problems.push("sweep.minSteps: got nothing with method halving, expected the steps before arms are first compared");
  for (const key of ["eta", "minSteps"] as const)
    if (!isHalving && plan[key] !== undefined) problems.push(`sweep.${key}: got it with method ${formatValue(method)}`);
  if (!isObject(parameters) || Object.keys(parameters).length === 0)
    problems.push(`sweep.parameters: got ${formatValue(parameters)}, expected options with their values`);
  else
    for (const [path, values] of Object.entries(parameters)) problems.push(...parameterProblems(path, values, method));
  if (problems.length > 0) throw new ConfigError("SWEEP_INVALID", problems);
  return plan as unknown as SweepPlan;
}

function parameterProblems(path: string, values: unknown, method: unknown): string[] {
  const at = `sweep.parameters.${path}`;
  const [section = "", option, ...rest] = path.split(".");
  const sections: readonly string[] = [...SECTIONS, ...PLUGINS];
  if (!sections.includes(section) || option === undefined || rest.length > 0)
    return [`${at}: expected section.option, such as training.learningRate; sections are ${sections.join(", ")}`];
  if (path === "training.outputDir") return [`${at}: each arm has a folder of its own`];
  if (Array.isArray(values)) return values.length > 0 ? [] : [`${at}: got an empty list, expected values`];
  if (!isRange(values)) return [`${at}: got ${formatValue(values)}, expected a list of values or { min, max }`];
  const strange = unknownKeys(values, ["min", "max", "scale", "integer"], "option", (key) => `${at}.${key}`);
  if (method === "grid") return [...strange, `${at}: got a range with method grid, expected a list of values`];
  if (values.scale !== undefined && values.scale !== "linear" && values.scale !== "log")
    strange.push(`${at}.scale: got ${formatValue(values.scale)}, expected "linear" or "log"`);
  if (!(values.min < values.max))
    strange.push(`${at}: got min ${values.min} and max ${values.max}, expected min below max`);
  else if (values.scale === "log" && values.min <= 0)
    strange.push(`${at}: got min ${values.min} with scale log, expected more than 0`);
  return strange;
}

/** What each arm lays over the config, the same for the same plan. @throws ConfigError for too many */
export function armValues(plan: SweepPlan): readonly ArmValues[] {
  const { method = "grid", parameters, trials = 8, seed = 42 } = plan;
  const entries = Object.entries(parameters);
  const count =
    method === "grid" ? entries.reduce((all, [, list]) => all * (list as readonly unknown[]).length, 1) : trials;
  if (count > MAX_ARMS)
    throw new ConfigError("SWEEP_INVALID", `sweep: got ${count} arms, expected at most ${MAX_ARMS}`);
  if (method !== "grid") {
    return Array.from({ length: count }, (_, arm) =>
      Object.fromEntries(entries.map(([path, from]) => [path, draw(from, uniform(seed, path, arm))])),
    );
  }
  return Array.from({ length: count }, (_, arm) => {
    let rest = arm;
    const chosen = entries.toReversed().map(([path, list]) => {
      const values = list as readonly unknown[];
      const value = values[rest % values.length];
      rest = Math.floor(rest / values.length);
      return [path, value] as const;
    });
    return Object.fromEntries(chosen.toReversed());
  });
}

/** A number in [0, 1) of an arm's parameter. */
const uniform = (seed: number, path: string, arm: number): number =>
  Math.min(1 - 2 ** -24, (uniformValues(1, 1, seed, `${path} ${arm}`)[0]! + 1) / 2);

function draw(from: readonly unknown[] | SweepRange, at: number): unknown {
  if (!isRange(from)) return from[Math.floor(at * from.length)];
  const { min, max, scale, integer } = from;
  // A whole number is as likely as any other, the last one too.
  const top = integer === true && scale !== "log" ? max + 1 : max;
  const value = scale === "log" ? min * (top / min) ** at : min + at * (top - min);
  return integer === true ? Math.min(max, scale === "log" ? Math.round(value) : Math.floor(value)) : value;
}

/** The config with an arm's values. @throws ConfigError listing every problem */
export function armConfig(base: Config, values: ArmValues, training: Readonly<Record<string, unknown>>): Config {
  const of = (section: string): Readonly<Record<string, unknown>> =>
    Object.fromEntries(
      Object.entries(values)
        .filter(([path]) => path.startsWith(`${section}.`))
        .map(([path, value]) => [path.slice(section.length + 1), value]),
    );
  const plugin = <K extends (typeof PLUGINS)[number]>(kind: K): ConfigInput[K] => {
    const { factory, input } = base[kind];
    return factory.configure({ ...input, ...of(kind) }) as ConfigInput[K];
  };
  return defineConfig({
    ...base.input,
    model: plugin("model"),
    adapter: plugin("adapter"),
    optimizer: plugin("optimizer"),
    data: { ...base.input.data, ...of("data") },
    training: { ...base.input.training, ...of("training"), ...training },
    device: { ...base.input.device, ...of("device") },
  });
}

/** Steps at which arms of a halving sweep are compared, the last of them `total`. */
export function rungsOf(minSteps: number, eta: number, total: number): readonly number[] {
  const rungs: number[] = [];
  for (let steps = minSteps; steps < total; steps *= eta) rungs.push(steps);
  return [...rungs, total];
}
