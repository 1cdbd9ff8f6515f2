import { ConfigError } from "../core/errors.ts";

/** The whole number that a command's own flag gives. @throws ConfigError */
export function wholeNumber(flag: string, text: string | undefined, least: number): number | undefined {
  if (text === undefined) return undefined;
  const value = text.trim() === "" ? Number.NaN : Number(text);
  if (Number.isSafeInteger(value) && value >= least) return value;
  throw new ConfigError("USAGE", `${flag}: got ${JSON.stringify(text)}, expected an integer >= ${least}`);
}
