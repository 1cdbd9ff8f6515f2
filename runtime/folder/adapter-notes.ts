/**
 * qlora.json beside an adapter's files: what PEFT's own files have no place for, so that an adapter that is moved away from its
 * run.json is still run as it was trained. A tokenizer_config.json alone would be taken for a whole tokenizer by peft.
 */
import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { ModelError } from "../../core/errors.ts";
import { isObject, parseJsonObject } from "../../core/formats/json-object.ts";
import { PROBLEM_TYPES, type Task, taskOfProblemType, TASKS } from "../../core/plugin/task.ts";
import { writeFileAtomic } from "../files/files.ts";

/** Name of the file. */
export const NOTES_FILE = "qlora.json";

/** What an adapter was trained with. */
export interface AdapterNotes {
  /** Whether bos and eos stood around its texts. */
  readonly specialTokens?: { readonly addBosToken: boolean; readonly addEosToken: boolean } | undefined;
  /** Names of its classes, outputs or labels, where they have any. */
  readonly labelNames?: readonly string[] | undefined;
  /** Numbers of its head. */
  readonly numLabels?: number | undefined;
  /** What it gives for a row. */
  readonly task?: Task | undefined;
}

/** `{"0": "negative", "1": "positive"}`, as transformers has it in config.json. */
export const id2label = (names: readonly string[]): Readonly<Record<string, string>> =>
  Object.fromEntries(names.entries());

/** Writes what there is to tell, in transformers' words. */
export async function writeAdapterNotes(
  directory: string,
  { specialTokens, labelNames, numLabels, task }: AdapterNotes,
): Promise<void> {
  if (specialTokens === undefined && labelNames === undefined && task === undefined) return;
  const notes = {
    // A reward model has no problem_type: transformers would take one logit for a regression.
    ...(task && { task, problem_type: PROBLEM_TYPES[task] ?? null }),
    ...(numLabels !== undefined && { num_labels: numLabels }),
    ...(labelNames && { id2label: id2label(labelNames) }),
    ...(specialTokens && { add_bos_token: specialTokens.addBosToken, add_eos_token: specialTokens.addEosToken }),
  };
  await writeFileAtomic(join(directory, NOTES_FILE), `${JSON.stringify(notes, null, 2)}\n`);
}

/** Reads what stands beside an adapter; empty where nothing does. @throws ModelError for a damaged file */
export async function readAdapterNotes(directory: string): Promise<AdapterNotes> {
  const path = join(directory, NOTES_FILE);
  if (!existsSync(path)) return {};
  const bad = (problem: string, cause?: unknown): ModelError =>
    new ModelError("ADAPTER_NOTES_INVALID", `${path}: ${problem}`, {
      hint: "Copy it anew from where the adapter was trained.",
      cause,
    });
  const notes = parseJsonObject(await readFile(path), bad);
  const { add_bos_token: addBosToken, add_eos_token: addEosToken, id2label: named } = notes;
  const { num_labels: numLabels, problem_type: problemType } = notes;
  const task = notes["task"] ?? taskOfProblemType(problemType);
  if (task !== undefined && !TASKS.some((known) => known === task))
    throw bad(`task: expected one of ${TASKS.join(", ")}`);
  if (numLabels !== undefined && !(Number.isSafeInteger(numLabels) && Number(numLabels) > 0))
    throw bad("num_labels: expected a whole number from 1 on");
  const flags = [addBosToken, addEosToken].filter((flag) => flag !== undefined);
  if (flags.length === 1 || !flags.every((flag) => typeof flag === "boolean"))
    throw bad("add_bos_token and add_eos_token: expected true or false for both");
  return {
    specialTokens:
      flags.length === 0 ? undefined : { addBosToken: addBosToken as boolean, addEosToken: addEosToken as boolean },
    labelNames: named === undefined ? undefined : namesOfId2label(named, bad),
    numLabels: numLabels as number | undefined,
    task: task as Task | undefined,
  };
}

/** Names of classes from 0 on. @throws what `refuse` makes */
export function namesOfId2label(named: unknown, refuse: (problem: string) => Error): readonly string[] {
  const entries = isObject(named) ? Object.entries(named) : [];
  const names = entries.map((_, id) => (named as Record<string, unknown>)[String(id)]);
  if (names.length > 0 && names.every((name) => typeof name === "string") && new Set(names).size === names.length)
    return names;
  throw refuse("id2label: expected a different name for each class from 0 on");
}
