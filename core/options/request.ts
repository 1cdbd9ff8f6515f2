/** What SDK functions are asked for: objects of options that no config holds, checked as a config's are. */
import { defineOptions, option, type OptionSet, type OptionShape } from "./options.ts";

/** What each key of T may hold, as arktype writes it; `?` at the end where the key may be left out. */
type Request<T> = {
  readonly [K in keyof T]-?: Record<never, never> extends Pick<T, K> ? `${string}?` : string;
};

type UntypedOption = (
  definition: string,
  details: { readonly help: string; readonly optional?: true },
) => OptionShape[string];

/**
 * Makes the check of such an object.
 * @param name stands before the key in problems; a function's name
 * @returns a function that gives back what it is given, or throws ConfigError for an unknown key, a missing one or a wrong value
 * @example const checkZoom = defineRequest<{ readonly by?: number }>("zoom", { by: "number > 0?" });
 */
export function defineRequest<T extends object>(name: string, request: Request<T>): (given: T) => T {
  const untyped = option as UntypedOption;
  const shape = Object.entries<string>(request).map(([key, definition]) => {
    const optional = definition.endsWith("?");
    const made = optional
      ? untyped(definition.slice(0, -1), { help: key, optional: true })
      : untyped(definition, { help: key });
    return [key, made] as const;
  });
  const options: OptionSet = defineOptions(Object.fromEntries(shape));
  return (given) => {
    options.parse(given, name);
    return given;
  };
}
