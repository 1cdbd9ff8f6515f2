import { ensemble, type EnsembleResult } from "../core/ensemble.ts";
import { ConfigError } from "../core/errors.ts";
import { writeFileAtomic } from "../core/files.ts";
import { formatProbabilities } from "../core/probabilities.ts";
import { notes, writeData, writeJson } from "./output.ts";

interface EnsembleFlags {
  readonly output: string | undefined;
  readonly weights: string | undefined;
  readonly temperature: string | undefined;
  readonly fit: string | undefined;
  readonly json: boolean;
}

/** A number as written; NaN for what is none, which the check that follows refuses. */
const toNumber = (text: string): number => (text.trim() === "" ? Number.NaN : Number(text));

/** Averages probability files; the mean goes to a file or to stdout. */
export async function runEnsemble(files: readonly string[], flags: EnsembleFlags): Promise<void> {
  const { output, fit, json } = flags;
  if (json && output === undefined) throw new ConfigError("USAGE", "--json: got it without --output, expected both");
  const weights = flags.weights?.split(",").map(toNumber);
  const temperature = flags.temperature === undefined ? undefined : toNumber(flags.temperature);
  const result = ensemble({ files, weights, temperature, fit });
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
    const { rows, equalWeights, fitted } = fit;
    notes.info(
      `log loss over ${rows} rows: ${equalWeights.toFixed(5)} with equal weights, ${fitted.toFixed(5)} fitted`,
    );
  }
}
