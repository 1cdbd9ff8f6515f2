import { ConfigError } from "../../core/errors.ts";
import { didYouMean } from "../../core/util/suggest.ts";
import { averageAdapters } from "../../sdk/average.ts";
import { notes, writeJson } from "../output.ts";

interface AdaptersFlags {
  readonly output: string | undefined;
  readonly json: boolean;
}

/** Works on trained adapters without a GPU. */
export async function runAdapters(
  [action = "", ...adapters]: readonly string[],
  { output, json }: AdaptersFlags,
): Promise<void> {
  const problems: string[] = [];
  if (action !== "average")
    problems.push(`ACTION: got ${JSON.stringify(action)}, expected average${didYouMean(action, ["average"])}`);
  if (output === undefined) problems.push("--output: got nothing, expected a folder");
  if (problems.length > 0) throw new ConfigError("USAGE", problems, { hint: "See qlora adapters --help." });
  const result = await averageAdapters({ adapters, outputDir: output! });
  if (json) await writeJson(result);
  notes.info(`wrote the mean of ${adapters.length} adapters (${result.tensors} tensors) to ${result.outputDir}`);
}
