import { ConfigError } from "../../core/errors.ts";
import type { QuantizeRequest } from "../../sdk/quantize/index.ts";
import type { CommandData } from "../command.ts";
import { notes, writeData, writeJson } from "../output.ts";
import { createProgress } from "../progress.ts";

interface QuantizeFlags {
  readonly output: string | undefined;
  readonly revision: string | undefined;
  readonly overwrite: boolean;
  readonly json: boolean;
}

/** Writes the quantized checkpoint and says what is in it. */
export async function quantize({ services, values, positionals }: CommandData, flags: QuantizeFlags): Promise<void> {
  const { output: outputDir, revision, overwrite, json } = flags;
  if (outputDir === undefined) {
    throw new ConfigError("USAGE", "--output: got nothing, expected a folder", { hint: "See qlora quantize --help." });
  }
  const sdk = await services.sdk();
  const progress = createProgress();
  const { quantize: choice = {}, device } = values;
  const request: QuantizeRequest = { ...choice, model: positionals[0]!, revision, outputDir, overwrite, device };
  const result = await sdk.quantize(request, { onEvent: progress.listen }).finally(progress.end);
  if (json) return writeJson(result);
  notes.info(`wrote ${result.tensors} tensors (${(result.bytes / 1e6).toFixed(1)} MB) to ${outputDir}`);
  await writeData(`${result.quantized} linears in 4 bits\n`);
}
