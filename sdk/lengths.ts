/** A file of token counts, which `plan` and `bench` take for the samples of a run. */
import { readFile } from "node:fs/promises";
import { ConfigError } from "../core/errors.ts";
import { option } from "../core/options/options.ts";
import { readOptionText } from "../core/options/parse.ts";
import { MAX_TOKENS, sampleTokens } from "../runtime/config/data-options.ts";

const lengthsOption = option(`(${sampleTokens})[]`, { help: "token counts of samples" });

/** @throws ConfigError where the file is no list of token counts */
export async function readLengths(path: string): Promise<readonly number[]> {
  const text = await readFile(path, "utf8").catch((cause: unknown) => {
    throw new ConfigError("LENGTHS_INVALID", `lengths: ${path} cannot be read`, { cause });
  });
  const read = readOptionText(lengthsOption, text.trim(), "lengths");
  const counts = read.ok ? (read.value as readonly number[]) : [];
  if (counts.length > 0) return counts;
  throw new ConfigError(
    "LENGTHS_INVALID",
    `lengths: ${path} is no JSON list of token counts from 1 to ${MAX_TOKENS}, such as [512, 1024]`,
  );
}
