import { ConfigError, QloraError } from "../../core/errors.ts";
import { didYouMean } from "../../core/util/suggest.ts";
import { remove } from "../../runtime/files/disk.ts";
import { checkWritable, explainWriteErrors, writeFileAtomic } from "../../runtime/files/files.ts";
import type { PredictResult } from "../../sdk/inference.ts";
import { withOutOfFold } from "../../sdk/out-of-fold.ts";
import { POST_PROCESSES, type PostProcess } from "../../sdk/post-process.ts";
import { formatProbabilities, formatSubmission } from "../../sdk/probabilities.ts";
import type { CommandData } from "../command.ts";
import { type AdapterFlags, inferenceRequest } from "../inference-flags.ts";
import { interruptible } from "../interrupt.ts";
import { columns, notes, writeData, writeJson } from "../output.ts";
import { createProgress } from "../progress.ts";
import { leads } from "../ranks.ts";

interface EvaluateFlags extends AdapterFlags {
  readonly json: boolean;
  readonly tta: "none" | "swap";
}

interface PredictFlags extends EvaluateFlags {
  readonly output: string | undefined;
  readonly logits: boolean;
  readonly postProcess: string | undefined;
  readonly submission: string | undefined;
  readonly oof: string | undefined;
  readonly resume: boolean;
}

/** Prints the metrics of a trained adapter. */
export async function evaluate({ services, values, positionals }: CommandData, flags: EvaluateFlags): Promise<void> {
  const sdk = await services.sdk();
  const progress = createProgress();
  const request = { ...inferenceRequest(values, positionals, flags), tta: flags.tta };
  const { listen } = progress;
  const result = await interruptible(
    listen,
    (signal) => sdk.evaluate(request, { onEvent: listen, signal }),
    "finishing the batch",
  ).finally(progress.end);
  if (flags.json) return writeJson(result);
  const rows = Object.entries({ samples: result.samples, ...result.metrics });
  await writeData(columns(rows.map(([name, value]) => [name, String(value)])));
}

/** Steps of `name=A,B,tie`, separated by spaces. @throws ConfigError */
function postProcessSteps(text = ""): PostProcess[] {
  return text
    .split(/\s+/)
    .filter((part) => part !== "")
    .map((part) => {
      const [name = "", ...given] = part.split("=");
      const numbers = given.join("=");
      const known = Object.keys(POST_PROCESSES);
      if (!Object.hasOwn(POST_PROCESSES, name)) {
        const message = `--post-process: got ${JSON.stringify(part)}, expected ${known.join(" or ")} and its probabilities${didYouMean(name, known)}`;
        throw new ConfigError("USAGE", message, { hint: "For example --post-process both-empty=0.04,0.88,0.08" });
      }
      const values =
        numbers === "" ? [] : numbers.split(",").map((item) => (item.trim() === "" ? Number.NaN : Number(item)));
      return POST_PROCESSES[name]!(values);
    });
}

/** @throws ConfigError where the flags ask for out-of-fold predictions of what they cannot be of */
function checkOutOfFold({ oof, logits }: PredictFlags, files: readonly string[]): void {
  if (oof === undefined) return;
  const problems = [
    ...(files.length > 0 ? [`--oof: got ${files.join(", ")} too, but these are predictions of the rows held out`] : []),
    ...(logits ? ["--oof: got it together with --logits, but the file has probabilities"] : []),
  ];
  if (problems.length > 0) throw new ConfigError("USAGE", problems, { hint: "See qlora predict --help." });
}

/** Writes a row of probabilities (or logits) for each row of data; what is done is kept beside the file until it is whole. */
export async function predict({ services, values, positionals }: CommandData, flags: PredictFlags): Promise<void> {
  const sdk = await services.sdk();
  const progress = createProgress();
  const { output, submission, oof, logits, tta, resume } = flags;
  checkOutOfFold(flags, positionals.slice(1));
  const kept = output ?? submission ?? oof;
  if (resume && kept === undefined) {
    const message = "--resume: got it without a file to write, beside which is kept what was done";
    throw new ConfigError("USAGE", message, { hint: "Give --output, --submission or --oof, as before." });
  }
  if (leads()) for (const file of [output, submission, oof]) if (file !== undefined) await checkWritable(file);
  const postProcess = postProcessSteps(flags.postProcess);
  const partialFile = kept === undefined ? undefined : `${kept}.partial`;
  const asked = { ...inferenceRequest(values, positionals, flags), logits, tta, postProcess, partialFile, resume };
  const { listen } = progress;
  const result = await interruptible(
    listen,
    (signal) => sdk.predict({ ...asked, submission: submission !== undefined }, { onEvent: listen, signal }),
    "finishing the batch",
  )
    .catch((error: unknown) => {
      if (partialFile !== undefined && error instanceof QloraError && error.code === "INTERRUPTED")
        notes.info(`${partialFile} has what is done; the same command with --resume goes on from it`);
      throw error;
    })
    .finally(progress.end);
  if (!leads()) return;
  // Whatever may be refused is, before a file is replaced.
  const outOfFold = oof === undefined ? undefined : withOutOfFold(oof, result);
  const write = async (file: string, text: string): Promise<void> => {
    await writeFileAtomic(file, text);
    notes.info(`wrote ${result.rows.length} rows to ${file}`);
  };
  if (submission !== undefined) await write(submission, formatSubmission(result));
  if (outOfFold !== undefined) {
    await writeFileAtomic(oof!, formatProbabilities(outOfFold));
    notes.info(`added ${result.rows.length} rows to ${oof}, which has ${outOfFold.rows.length} now`);
  }
  const jsonLines = flags.json || output?.endsWith(".jsonl") === true;
  const text = (): string => (jsonLines ? toJsonLines(result) : formatProbabilities(result));
  if (output !== undefined) await write(output, text());
  else if ((submission ?? oof) === undefined || flags.json) await writeData(text());
  if (partialFile !== undefined) await explainWriteErrors(partialFile, () => remove(partialFile));
}

function toJsonLines({ columns: names, rows }: PredictResult): string {
  return rows
    .map(({ id, values }) => ({ id, ...Object.fromEntries(names.map((name, i) => [name, values[i]])) }))
    .map((row) => `${JSON.stringify(row)}\n`)
    .join("");
}
