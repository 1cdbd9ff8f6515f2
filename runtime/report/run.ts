/** What a report is made of: the files of a run's folder, read and checked. */
import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { basename, join, resolve } from "node:path";
import { QloraError } from "../../core/errors.ts";
import { isObject } from "../../core/formats/json-object.ts";
import { parsePythonJson } from "../../core/formats/python-json.ts";
import { EVALUATION_FILE, parseEvaluation, type EvaluationRecord } from "../folder/evaluation-record.ts";
import { isOfOutputs, type OutputsRecord, parseOutputs } from "../folder/outputs-record.ts";
import { RUN_FILES } from "../folder/folder.ts";
import type { LogEntry } from "../folder/trainer-state.ts";

/** A JSON object of which nothing is known yet. */
export type JsonObject = Readonly<Record<string, unknown>>;

/** A run as its report shows it. */
export interface ReportRun {
  /** Last part of the run's folder. */
  readonly name: string;
  /** run.json. */
  readonly record: JsonObject;
  /** metrics.jsonl; a value that JSON could not hold (NaN, infinity) is NaN. */
  readonly history: readonly LogEntry[];
  /** evaluation.json, where the run has one. */
  readonly evaluation: EvaluationRecord | undefined;
  /** The same of a task without classes. */
  readonly outputs?: OutputsRecord | undefined;
  /** Tokens seen, where trainer_state.json says so. */
  readonly tokens: number | undefined;
}

/**
 * Reads what a run's folder holds; a run that is still going on has less. `readHistory` reads metrics.jsonl in its own way.
 * @throws QloraError RUN_NOT_FOUND, RUN_RECORD_INVALID, METRICS_DAMAGED or EVALUATION_INVALID naming the file
 */
export async function readReportRun(
  outputDir: string,
  readHistory?: () => Promise<readonly LogEntry[]>,
): Promise<ReportRun> {
  const recordPath = join(outputDir, RUN_FILES.record);
  const record = await readObject(recordPath, "RUN_RECORD_INVALID");
  if (record === undefined) {
    throw new QloraError("RUN_NOT_FOUND", `${recordPath}: no such file, so ${outputDir} is no run's folder`, {
      hint: "Name the folder that training.outputDir named.",
    });
  }
  const metricsPath = join(outputDir, RUN_FILES.metrics);
  const evaluationPath = join(outputDir, EVALUATION_FILE);
  const evaluation = await readObject(evaluationPath, "EVALUATION_INVALID");
  const ofOutputs = evaluation !== undefined && isOfOutputs(evaluation);
  const state = await readObject(join(outputDir, RUN_FILES.state), "TRAINER_STATE_INVALID");
  const whole = async (): Promise<readonly LogEntry[]> =>
    existsSync(metricsPath) ? parseMetrics(await readFile(metricsPath, "utf8"), metricsPath) : [];
  const tokens = state?.["num_input_tokens_seen"];
  return {
    name: basename(resolve(outputDir)),
    record,
    history: await (readHistory ?? whole)(),
    evaluation: evaluation === undefined || ofOutputs ? undefined : parseEvaluation(evaluation, evaluationPath),
    outputs: ofOutputs ? parseOutputs(evaluation, evaluationPath) : undefined,
    tokens: typeof tokens === "number" && tokens > 0 ? tokens : undefined,
  };
}

/**
 * The entries of a metrics.jsonl, or of its lines after the first `before`; half a last line, which a process killed while it
 * appended leaves, is left out.
 * @throws QloraError METRICS_DAMAGED with the line
 */
export function parseMetrics(text: string, path: string, before = 0): LogEntry[] {
  const lines = text.split("\n");
  return lines.flatMap((line, i): LogEntry[] => {
    if (line.trim() === "") return [];
    const entry = parseEntry(line);
    if (entry !== undefined) return [entry];
    if (i === lines.length - 1) return [];
    throw new QloraError(
      "METRICS_DAMAGED",
      `${path}:${before + i + 1}: expected a JSON object of numbers with step and epoch`,
      {
        hint: "Remove the line, or write the report of a copy of the folder without it.",
      },
    );
  });
}

function parseEntry(line: string): LogEntry | undefined {
  const value = parseObject(line);
  if (value === undefined || typeof value["step"] !== "number" || typeof value["epoch"] !== "number") return undefined;
  const entries = Object.entries(value).map(([key, n]) => [key, n === null ? NaN : n] as const);
  return entries.every(([, n]) => typeof n === "number") ? (Object.fromEntries(entries) as LogEntry) : undefined;
}

async function readObject(path: string, code: string): Promise<JsonObject | undefined> {
  if (!existsSync(path)) return undefined;
  const value = parseObject(await readFile(path, "utf8"));
  if (value === undefined) throw new QloraError(code, `${path}: is not a JSON object`);
  return value;
}

function parseObject(text: string): JsonObject | undefined {
  try {
    // Python writes NaN and Infinity into its JSON, and so does trainer_state.json.
    const value: unknown = parsePythonJson(text);
    return isObject(value) ? value : undefined;
  } catch (error) {
    if (error instanceof SyntaxError) return undefined; // the caller says which file and line
    throw error;
  }
}

/** The value at a path of keys, or undefined. */
export function at(value: unknown, ...keys: readonly string[]): unknown {
  return keys.reduce<unknown>((inner, key) => (isObject(inner) ? inner[key] : undefined), value);
}

/** The number at a path of keys, or undefined. */
export function numberAt(value: unknown, ...keys: readonly string[]): number | undefined {
  const found = at(value, ...keys);
  return typeof found === "number" ? found : undefined;
}

/** The text at a path of keys, or undefined. */
export function textAt(value: unknown, ...keys: readonly string[]): string | undefined {
  const found = at(value, ...keys);
  return typeof found === "string" && found !== "" ? found : undefined;
}

/** Last part of the checkpoint's folder, or of its name on the hub. */
export function checkpointName(record: JsonObject): string | undefined {
  const checkpoint = textAt(record, "config", "model", "options", "checkpoint");
  return checkpoint?.split(/[\\/]/).findLast((part) => part !== "");
}
