import { ConfigError } from "../../core/errors.ts";
import type { CommandData } from "../command.ts";
import { type AdapterFlags, inferenceRequest } from "../inference-flags.ts";
import { wholeNumber } from "../numbers.ts";
import { notes, writeData, writeJson } from "../output.ts";
import { createProgress } from "../progress.ts";

interface MergeFlags extends AdapterFlags {
  readonly output: string | undefined;
  readonly overwrite: boolean;
  readonly rows: string | undefined;
  readonly json: boolean;
}

/** Writes the merged checkpoint and prints what merging changed. */
export async function merge({ services, values, positionals }: CommandData, flags: MergeFlags): Promise<void> {
  const { output: outputDir, overwrite, json } = flags;
  if (outputDir === undefined) {
    throw new ConfigError("USAGE", "--output: got nothing, expected a folder", { hint: "See qlora merge --help." });
  }
  const rows = wholeNumber("--rows", flags.rows, 0);
  const sdk = await services.sdk();
  const progress = createProgress();
  const request = { ...inferenceRequest(values, positionals, flags), outputDir, overwrite, rows };
  const result = await sdk.merge(request, { onEvent: progress.listen }).finally(progress.end);
  const { tensors, shards, bytes, difference } = result;
  const files = shards === 1 ? "1 file" : `${shards} files`;
  notes.info(`wrote ${tensors} tensors (${size(bytes)} in ${files}) to ${outputDir}`);
  if (json) return writeJson({ ...result, difference: difference ?? null });
  if (difference === undefined) return notes.info("the difference was not measured");
  const { max, mean, rows: measured } = difference;
  await writeData(
    `max |logit difference| ${max.toPrecision(3)} over ${measured} rows\nmean |logit difference| ${mean.toPrecision(3)}\n`,
  );
}

const size = (bytes: number): string =>
  bytes < 1e9 ? `${(bytes / 1e6).toFixed(1)} MB` : `${(bytes / 1e9).toFixed(2)} GB`;
