import { writeFile } from "node:fs/promises";
import type { CommandData } from "./command.ts";
import { inferenceRequest } from "./inference-flags.ts";
import { columns, notes, writeData, writeJson } from "./output.ts";
import { createProgress } from "./progress.ts";
import type { PredictResult } from "../core/inference.ts";

interface EvaluateFlags {
  readonly baseModel: string | undefined;
  readonly json: boolean;
}

interface PredictFlags extends EvaluateFlags {
  readonly output: string | undefined;
  readonly logits: boolean;
}

/** Prints the metrics of a trained adapter. */
export async function evaluate({ services, values, positionals }: CommandData, flags: EvaluateFlags): Promise<void> {
  const sdk = await services.sdk();
  const progress = createProgress();
  const result = await sdk.evaluate(inferenceRequest(values, positionals, flags.baseModel), {
    onEvent: progress.listen,
  });
  progress.end();
  if (flags.json) return writeJson(result);
  const rows = Object.entries({ samples: result.samples, ...result.metrics });
  await writeData(columns(rows.map(([name, value]) => [name, String(value)])));
}

/** Writes a row of probabilities (or logits) for each row of data. */
export async function predict({ services, values, positionals }: CommandData, flags: PredictFlags): Promise<void> {
  const sdk = await services.sdk();
  const progress = createProgress();
  const request = { ...inferenceRequest(values, positionals, flags.baseModel), logits: flags.logits };
  const result = await sdk.predict(request, { onEvent: progress.listen });
  progress.end();
  const { output } = flags;
  const text = flags.json || output?.endsWith(".jsonl") === true ? toJsonLines(result) : toCsv(result);
  if (output === undefined) return writeData(text);
  await writeFile(output, text);
  notes.info(`wrote ${result.rows.length} rows to ${output}`);
}

const csvCell = (text: string): string => (/[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);

function toCsv({ columns: names, rows }: PredictResult): string {
  const lines = rows.map(({ id, values }) => [csvCell(id), ...values].join(","));
  return `${["id", ...names].map(csvCell).join(",")}\n${lines.map((line) => `${line}\n`).join("")}`;
}

function toJsonLines({ columns: names, rows }: PredictResult): string {
  return rows
    .map(({ id, values }) => ({ id, ...Object.fromEntries(names.map((name, i) => [name, values[i]])) }))
    .map((row) => `${JSON.stringify(row)}\n`)
    .join("");
}
