/**
 * One schema per option set: the static type, the check, the defaults, the flags and the help text of a plugin or of a
 * section of the config all come from one `defineOptions`. A default stands here and nowhere else.
 */
import { type } from "arktype";
import { ConfigError } from "../errors.ts";
import { isObject } from "../formats/json-object.ts";
import { unknownKeys } from "../util/suggest.ts";
import { describeDefinition, formatValue } from "./describe.ts";
import { isStandardSchema, schemaKeys, type StandardSchema, validateStandard } from "./standard.ts";

type ReadonlyValue<V> = V extends readonly (infer E)[] ? readonly E[] : V;
type ValueOf<D> = ReadonlyValue<type.infer<D>>;

/** Whether a value must be given (`required`), may be missing (`optional`), or is `defaulted`: filled by a default. */
export type Presence = "required" | "optional" | "defaulted";

/** One option of a set; make it with {@link option}. */
export interface Option<V = unknown, P extends Presence = Presence> {
  readonly presence: P;
  /** The arktype definition it was made from. */
  readonly definition: string;
  /** What is expected, in words: `an integer >= 1`. */
  readonly expected: string;
  readonly help: string;
  readonly default: V | undefined;
  /** Key of the same set whose value is taken where this one is missing. */
  readonly defaultFrom: string | undefined;
  /** True where the value fits; never throws. */
  readonly accepts: (value: unknown) => value is V;
}

export type OptionShape = Readonly<Record<string, Option>>;

type KeysWith<S extends OptionShape, P extends Presence> = {
  [K in keyof S]: S[K] extends Option<unknown, P> ? K : never;
}[keyof S];
type ValueAt<S extends OptionShape, K extends keyof S> = S[K] extends Option<infer V> ? V : never;
type Flat<T> = { readonly [K in keyof T]: T[K] };

/** What a caller may write: required keys, and the rest optional. */
export type OptionsInput<S extends OptionShape> = Flat<
  { [K in KeysWith<S, "required">]: ValueAt<S, K> } & {
    [K in KeysWith<S, "optional" | "defaulted">]?: ValueAt<S, K> | undefined;
  }
>;

/** What the code reads: every key, defaults filled in. */
export type OptionsOutput<S extends OptionShape> = Flat<
  { [K in KeysWith<S, "required" | "defaulted">]: ValueAt<S, K> } & {
    [K in KeysWith<S, "optional">]: ValueAt<S, K> | undefined;
  }
>;

/** One row of help; plain JSON. */
export interface OptionDescription {
  readonly key: string;
  readonly expected: string;
  readonly required: boolean;
  readonly default: unknown;
  readonly defaultFrom: string | undefined;
  readonly help: string;
}

/** A value, or the problems that keep it from being one. */
export type Checked<T> =
  | { readonly ok: true; readonly value: T }
  | { readonly ok: false; readonly problems: readonly string[] };

/** A checked set of options. */
export interface OptionSet<S extends OptionShape = OptionShape> {
  readonly shape: S;
  /** Checks `input` (unknown keys are problems) and fills in defaults; `path` prefixes each problem. */
  check(input: unknown, path?: string): Checked<OptionsOutput<S>>;
  /** As `check`. @throws ConfigError listing every problem */
  parse(input: unknown, path?: string): OptionsOutput<S>;
  describe(): readonly OptionDescription[];
}

/** Input type of a set: `InferInput<typeof trainingOptions>`. */
export type InferInput<T> = T extends OptionSet<infer S> ? OptionsInput<S> : never;
/** Output type of a set: `InferOptions<typeof trainingOptions>`. */
export type InferOptions<T> = T extends OptionSet<infer S> ? OptionsOutput<S> : never;

/** The options that a schema of another library stands for: what it fills in is `defaulted`. */
export type SchemaShape<Input, Output> = {
  readonly [K in keyof Output & string]-?: Option<
    Exclude<Output[K], undefined>,
    K extends keyof Input
      ? undefined extends Input[K]
        ? undefined extends Output[K]
          ? "optional"
          : "defaulted"
        : "required"
      : "defaulted"
  >;
};

type Details<V> = {
  readonly help: string;
  readonly default?: V;
  readonly defaultFrom?: string;
  readonly optional?: true;
};

/**
 * Declares one option from an arktype definition: `option("number.integer >= 1", { default: 8, help: "LoRA rank r" })`.
 * Without `default`, `defaultFrom` or `optional: true` it must be given.
 * @example defineOptions({ average: option("'macro' | 'micro'", { default: "macro", help: "how classes are averaged" }) });
 */
export function option<const D>(
  definition: type.validate<D>,
  details: { readonly help: string; readonly default: NoInfer<ValueOf<D>> },
): Option<ValueOf<D>, "defaulted">;
export function option<const D>(
  definition: type.validate<D>,
  details: { readonly help: string; readonly defaultFrom: string },
): Option<ValueOf<D>, "defaulted">;
export function option<const D>(
  definition: type.validate<D>,
  details: { readonly help: string; readonly optional: true },
): Option<ValueOf<D>, "optional">;
export function option<const D>(
  definition: type.validate<D>,
  details: { readonly help: string },
): Option<ValueOf<D>, "required">;
export function option(definition: string, details: Details<unknown>): Option {
  return makeOption(definition, details);
}

function makeOption(definition: string, details: Details<unknown>): Option {
  const validator = type.raw(definition);
  const defaulted = details.default !== undefined || details.defaultFrom !== undefined;
  return {
    presence: defaulted ? "defaulted" : details.optional === true ? "optional" : "required",
    definition,
    expected: describeDefinition(definition),
    help: details.help,
    default: details.default,
    defaultFrom: details.defaultFrom,
    accepts: (value): value is unknown => validator.allows(value) && !hasInfinity(value),
  };
}

/** A run's record is JSON, which has no infinity; lists may be nested as deep as they like, and hold themselves. */
function hasInfinity(value: unknown): boolean {
  const seen = new Set<unknown>();
  for (const left = [value]; left.length > 0;) {
    const next = left.pop();
    if (next === Infinity || next === -Infinity) return true;
    if (!Array.isArray(next) || seen.has(next)) continue;
    seen.add(next);
    for (const item of next) left.push(item);
  }
  return false;
}

/**
 * Makes one set of options; `rules` returns a problem for each combination that cannot be meant, as `key: what`.
 *
 * A schema of zod, valibot or arktype (Standard Schema) serves in place of the shape; flags and help come from its JSON Schema.
 * @example
 * const options = defineOptions({ rank: option("number.integer >= 1", { default: 8, help: "LoRA rank r" }) });
 * options.parse({ rank: 16 }); // { rank: 16 }
 */
export function defineOptions<Input extends object, Output extends object>(
  schema: StandardSchema<Input, Output>,
  rules?: (options: OptionsOutput<SchemaShape<Input, Output>>) => readonly string[],
): OptionSet<SchemaShape<Input, Output>>;
export function defineOptions<const S extends OptionShape>(
  shape: S,
  rules?: (options: OptionsOutput<S>) => readonly string[],
): OptionSet<S>;
export function defineOptions(
  given: OptionShape | StandardSchema,
  rules: (options: OptionsOutput<OptionShape>) => readonly string[] = () => [],
): OptionSet {
  return isStandardSchema(given) ? schemaOptions(given, rules) : shapeOptions(given, rules);
}

type Rules = (options: OptionsOutput<OptionShape>) => readonly string[];
type Check = OptionSet["check"];

const pathOf =
  (path: string) =>
  (key: string): string =>
    path === "" ? key : `${path}.${key}`;

/** The set of a schema of another library, which checks and fills in defaults; its keys are known where it has a JSON Schema. */
function schemaOptions(schema: StandardSchema, rules: Rules): OptionSet {
  const keys = schemaKeys(schema);
  const shape = Object.fromEntries(
    keys.map(({ key, definition, help, default: standard, required }) => [
      key,
      makeOption(definition, {
        help,
        ...(required ? {} : standard === undefined ? { optional: true as const } : { default: standard }),
      }),
    ]),
  );
  const check: Check = (input, path = "") => {
    const at = pathOf(path);
    if (!isObject(input)) return noObject(input, path);
    const unknown = keys.length === 0 ? [] : unknownKeys(input, Object.keys(shape), "option", at);
    const checked = validateStandard(schema, input, at);
    const problems = [...unknown, ...("problems" in checked ? checked.problems : [])];
    if (problems.length > 0 || !("value" in checked)) return { ok: false, problems };
    if (!isObject(checked.value) || hasInfinity(Object.values(checked.value)))
      return {
        ok: false,
        problems: [
          `${path || "options"}: got ${formatValue(checked.value)} from the schema, expected an object of JSON`,
        ],
      };
    const broken = rules(checked.value).map(at);
    return broken.length > 0 ? { ok: false, problems: broken } : { ok: true, value: checked.value };
  };
  return optionSet(shape, check);
}

const noObject = (input: unknown, path: string): Checked<never> => ({
  ok: false,
  problems: [`${path || "options"}: got ${formatValue(input)}, expected an object of options`],
});

function shapeOptions(shape: OptionShape, rules: Rules): OptionSet {
  const keys = Object.keys(shape);

  const check: Check = (input, path = "") => {
    const at = pathOf(path);
    if (!isObject(input)) return noObject(input, path);
    const problems = unknownKeys(input, keys, "option", at);
    const values: Record<string, unknown> = {};
    for (const key of keys) {
      const { presence, default: standard, expected, accepts } = shape[key]!;
      const given = Object.hasOwn(input, key) ? input[key] : undefined;
      values[key] = given === undefined ? standard : given;
      const fits = given === undefined ? presence !== "required" : accepts(given);
      if (!fits) problems.push(`${at(key)}: got ${formatValue(given)}, expected ${expected}`);
    }
    for (const key of keys) {
      const from = shape[key]!.defaultFrom;
      if (from !== undefined && values[key] === undefined) values[key] = values[from];
    }
    if (problems.length > 0) return { ok: false, problems };
    const broken = rules(values).map(at);
    return broken.length > 0 ? { ok: false, problems: broken } : { ok: true, value: values };
  };
  return optionSet(shape, check);
}

function optionSet(shape: OptionShape, check: Check): OptionSet {
  return {
    shape,
    check,
    parse(input, path) {
      const result = check(input, path);
      if (!result.ok) throw new ConfigError("OPTIONS_INVALID", result.problems);
      return result.value;
    },
    describe: () =>
      Object.keys(shape).map((key) => {
        const { expected, presence, default: standard, defaultFrom, help } = shape[key]!;
        return { key, expected, required: presence === "required", default: standard, defaultFrom, help };
      }),
  };
}
