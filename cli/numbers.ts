import { ConfigError } from "../core/errors.ts";

const numberOf = (text: string): number => (text.trim() === "" ? Number.NaN : Number(text));

/** The whole number that a command's own flag gives. @throws ConfigError */
export function wholeNumber(flag: string, text: string | undefined, least: number): number | undefined {
  if (text === undefined) return undefined;
  const value = numberOf(text);
  if (Number.isSafeInteger(value) && value >= least) return value;
  throw new ConfigError("USAGE", `${flag}: got ${JSON.stringify(text)}, expected an integer >= ${least}`);
}

/** The number that a command's own flag gives. @param expected in words @throws ConfigError for what is none */
export function readNumber(flag: string, text: string, expected: string, hint: string): number {
  const value = numberOf(text);
  if (!Number.isNaN(value)) return value;
  throw new ConfigError("USAGE", `${flag}: got ${JSON.stringify(text)}, expected ${expected}`, { hint });
}

/** The numbers that a command's own flag gives, separated by commas. @throws ConfigError naming what is none */
export function readNumbers(flag: string, text: string, expected: string, hint: string): number[] {
  return text.split(",").map((part) => readNumber(part === text ? flag : `${flag} ${text}`, part, expected, hint));
}
