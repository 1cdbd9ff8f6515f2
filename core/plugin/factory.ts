/** Plugins as values: a factory stamped with its kind, and what it makes from options. Told apart by `kind` alone. */
import { ConfigError, PluginError } from "../errors.ts";
import { formatValue } from "../options/describe.ts";
import type { OptionSet, OptionShape, OptionsInput, OptionsOutput } from "../options/options.ts";
import { unknownKeys } from "../util/suggest.ts";
import { version } from "../util/version.ts";
import { partProblems, type WantedPart, PLUGIN_KINDS, type PluginKind } from "./check.ts";

/** `an adapter`, `a metric`. */
export const article = (kind: PluginKind): string => (/^[aeiou]/.test(kind) ? `an ${kind}` : `a ${kind}`);

/** What an author writes; `create` gets the parsed options first. */
export interface PluginDefinition<S extends OptionShape, A extends readonly unknown[], R> {
  readonly name: string;
  readonly options: OptionSet<S>;
  create(options: OptionsOutput<S>, ...args: A): R;
}

/** A configured plugin: what a config holds. */
export interface Plugin<
  K extends PluginKind = PluginKind,
  A extends readonly unknown[] = readonly never[],
  R = unknown,
  O = object,
> {
  readonly kind: K;
  readonly name: string;
  /** Parsed options, defaults filled in. */
  readonly options: O;
  /** The options as they were given, so that flags can be laid over them. */
  readonly input: object;
  /** Where it came from; `factory.options` is its schema. */
  readonly factory: PluginFactory<K, A, R>;
  /** Makes the live object; the options are bound already. */
  create(...args: A): R;
}

/** A factory whose option types are not known here. */
export interface PluginFactory<
  K extends PluginKind = PluginKind,
  A extends readonly unknown[] = readonly never[],
  R = unknown,
> {
  readonly kind: K;
  readonly name: string;
  /** Version of the copy of qlora that stamped it. */
  readonly qlora: string;
  readonly options: OptionSet;
  /** Checks `input` and configures the plugin. @throws ConfigError listing every problem */
  configure(input: unknown): Plugin<K, A, R>;
}

type FactoryArguments<S extends OptionShape> =
  Record<never, never> extends OptionsInput<S> ? [options?: OptionsInput<S>] : [options: OptionsInput<S>];

/** The typed factory that a config calls: `lora({ rank: 64 })`. */
export interface TypedPluginFactory<
  K extends PluginKind,
  S extends OptionShape,
  A extends readonly unknown[],
  R,
> extends PluginFactory<K, A, R> {
  (...options: FactoryArguments<S>): Plugin<K, A, R, OptionsOutput<S>>;
}

/** What a kind asks for beside `name`, `options` and `create`. */
interface KindRules<R> {
  /** Further parts of the definition. */
  readonly parts?: Readonly<Record<string, WantedPart>>;
  /** What `create` gives, once it is whole. @throws PluginError */
  readonly complete?: (name: string, made: R) => R;
}

/** Stamps a definition with its kind. The `define...` functions are this one with their types. */
export function definePlugin<const K extends PluginKind, const S extends OptionShape, A extends readonly unknown[], R>(
  kind: K,
  definition: PluginDefinition<S, A, R>,
  { parts = {}, complete = (_, made) => made }: KindRules<R> = {},
): TypedPluginFactory<K, S, A, R> {
  const { name, options: schema } = definition;
  const known = { create: "function", ...parts } as const;
  const problems = [
    ...unknownKeys(definition, ["name", "options", ...Object.keys(known)], "part"),
    ...(typeof name === "string" && name !== "" ? [] : [`name: got ${formatValue(name)}, expected a name`]),
    ...(typeof (schema as Partial<OptionSet> | undefined)?.check === "function"
      ? []
      : [`options: got ${formatValue(schema)}, expected what defineOptions returns`]),
    ...partProblems(definition, known),
  ];
  if (problems.length > 0) {
    const what = `the definition of ${typeof name === "string" && name !== "" ? `${kind} ${name}` : article(kind)}`;
    throw new PluginError("PLUGIN_DEFINITION", `${what}: ${problems.join("; ")}`);
  }

  function configure(input: unknown): Plugin<K, A, R, OptionsOutput<S>> {
    const checked = schema.check(input, kind);
    if (!checked.ok) throw new ConfigError("PLUGIN_OPTIONS_INVALID", checked.problems);
    const options = checked.value;
    return {
      kind,
      name,
      options,
      input: input as object,
      factory,
      create: (...args) => complete(name, definition.create(options, ...args)),
    };
  }

  const call = (...given: FactoryArguments<S>): Plugin<K, A, R, OptionsOutput<S>> =>
    configure(given[0] === undefined ? {} : given[0]);
  const factory = Object.defineProperties(call, {
    kind: { value: kind, enumerable: true },
    name: { value: name, enumerable: true },
    qlora: { value: version, enumerable: true },
    options: { value: schema, enumerable: true },
    configure: { value: configure, enumerable: true },
  }) as TypedPluginFactory<K, S, A, R>;
  return factory;
}

const hasStamp = (value: unknown): value is { kind: unknown; name: unknown } =>
  value !== null && (typeof value === "object" || typeof value === "function") && "kind" in value && "name" in value;

/** True for a factory of `kind` (or of any kind), whichever copy of qlora made it. */
export function isPluginFactory(value: unknown, kind?: PluginKind): value is PluginFactory {
  if (!hasStamp(value) || !("configure" in value) || typeof value.configure !== "function") return false;
  return PLUGIN_KINDS.some((known) => known === value.kind) && (kind === undefined || value.kind === kind);
}

/** True for a configured plugin of `kind`. */
export function isPlugin(value: unknown, kind: PluginKind): value is Plugin {
  return hasStamp(value) && value.kind === kind && "factory" in value && isPluginFactory(value.factory, kind);
}
