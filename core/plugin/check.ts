/**
 * What the objects of a plugin must have, by kind: told when a plugin makes one, before any training, and not by the first
 * checkpoint that needs a missing part.
 */
import { PluginError } from "../errors.ts";
import { formatValue } from "../options/describe.ts";

const EXPECTED = {
  function: "a function",
  list: "a list",
  string: "a string",
  number: "a number",
  object: "an object",
} as const;
type Part = keyof typeof EXPECTED;
/** What a part must be; `?` at the end where it may be undefined. */
export type WantedPart = Part | `${Part}?`;

/** Every part of T. */
export type Parts<T> = { readonly [K in keyof T]-?: undefined extends T[K] ? `${Part}?` : Part };

const fits = (value: unknown, part: Part): boolean =>
  part === "list" ? Array.isArray(value) : typeof value === part && value !== null;

/** A problem for each part that is missing or is something else. */
export function partProblems(value: object, parts: Readonly<Record<string, WantedPart>>): string[] {
  return Object.entries(parts).flatMap(([name, wanted]) => {
    const got = (value as Readonly<Record<string, unknown>>)[name];
    const part = wanted.replace("?", "") as Part;
    if (fits(got, part) || (got === undefined && wanted.endsWith("?"))) return [];
    return [`${name}: got ${formatValue(got)}, expected ${EXPECTED[part]}`];
  });
}

/** Which plugin made it, and with which of its methods. */
interface Maker {
  readonly kind: PluginKind;
  readonly name: string;
  readonly method: "create" | "outline" | "load";
}

/** `made` itself. @throws PluginError naming the plugin and each part that is missing or wrong */
export function complete<T extends object>(made: T, parts: Parts<T>, { kind, name, method }: Maker): T {
  const given: unknown = made;
  const wrong = (problem: string): PluginError =>
    new PluginError("PLUGIN_INCOMPLETE", `${kind} ${name}: of what ${method}() gives, ${problem}`, {
      hint: `Write what is missing, or mend what is wrong; then hold the plugin against ${kind}Contract of qlora/testing.`,
    });
  if (given instanceof Promise || typeof given !== "object" || given === null) {
    const got = given instanceof Promise ? "a promise" : formatValue(given);
    const needed = Object.entries<string>(parts).filter(([, part]) => !part.endsWith("?"));
    throw wrong(`all: got ${got}, expected an object with ${needed.map(([part]) => part).join(", ")}`);
  }
  const problems = partProblems(made, parts);
  if (problems.length > 0) throw wrong(problems.join("; "));
  return made;
}

export const PLUGIN_KINDS = ["model", "adapter", "optimizer", "metric", "reporter", "schedule", "template"] as const;

export type PluginKind = (typeof PLUGIN_KINDS)[number];
