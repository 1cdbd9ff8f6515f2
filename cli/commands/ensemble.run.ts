import { ConfigError } from "../../core/errors.ts";
import { writeFileAtomic } from "../../runtime/files/files.ts";
import { ensemble, type EnsembleResult } from "../../sdk/ensemble.ts";
import { formatProbabilities } from "../../sdk/probabilities.ts";
import { readNumber, readNumbers } from "../numbers.ts";
import { notes, writeData, writeJson } from "../output.ts";

interface EnsembleFlags {
  readonly output: string | undefined;
  readonly weights: string | undefined;
  readonly temperature: string | undefined;
  readonly fit: string | undefined;
  readonly json: boolean;
}

/** What is expected, and an example. */
const WEIGHTS = ["a number >= 0 for each file", "For example --weights 0.6,0.4."] as const;
const TEMPERATURE = ["a number > 0", "For example --temperature 1.1."] as const;

/** Averages probability files; the mean goes to a file or to stdout. */
export async function runEnsemble(files: readonly string[], flags: EnsembleFlags): Promise<void> {
  const { output, fit, json } = flags;
  if (json && output === undefined) throw new ConfigError("USAGE", "--json: got it without --output, expected both");
  const weights = flags.weights === undefined ? undefined : readNumbers("--weights", flags.weights, ...WEIGHTS);
  const temperature =
    flags.temperature === undefined ? undefined : readNumber("--temperature", flags.temperature, ...TEMPERATURE);
  const result = await ensemble({ files, weights, temperature, fit });
  if (output === undefined) await writeData(formatProbabilities(result));
  else await writeFileAtomic(output, formatProbabilities(result));
  if (json) await writeJson({ weights: result.weights, temperature: result.temperature, fit: result.fit ?? null });
  tell(files, result);
  if (output !== undefined) notes.info(`wrote ${result.rows.length} rows to ${output}`);
}

function tell(files: readonly string[], { weights, temperature, fit }: EnsembleResult): void {
  files.forEach((file, i) => {
    const alone = fit === undefined ? "" : `  log loss ${fit.files[i]!.toFixed(5)}`;
    notes.info(`weight ${weights[i]!.toFixed(4)}${alone}  ${file}`);
  });
  if (temperature !== 1) notes.info(`temperature ${temperature.toFixed(4)}`);
  if (fit !== undefined) {
    const { rows, equalWeights, fitted, warning } = fit;
    notes.info(
      `log loss over ${rows} rows: ${equalWeights.toFixed(5)} with equal weights, ${fitted.toFixed(5)} fitted`,
    );
    if (warning !== undefined) notes.warn(warning);
  }
}
