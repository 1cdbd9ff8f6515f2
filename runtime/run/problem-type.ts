/** Whether a base model and an adapter are of the task that they are used for: transformers' `problem_type`. */
import { ConfigError, ModelError } from "../../core/errors.ts";
import { readModelConfig } from "../../core/formats/checkpoint.ts";
import { PROBLEM_TYPES, type Task, taskOfProblemType } from "../../core/plugin/task.ts";
import { openFolder } from "../files/folder.ts";
import { readAdapterNotes } from "../folder/adapter-notes.ts";
import { readRunRecord } from "../folder/record.ts";
import type { BaseModel } from "../session/base-model.ts";

/**
 * Refuses a classifier of transformers that was trained for another task: its head would be read as what it is not.
 * @throws ModelError MODEL_PROBLEM_TYPE
 */
export async function requireProblemType({ source, name }: BaseModel, task: Task): Promise<void> {
  const folder = openFolder(source.checkpoint);
  if (!(await folder.has("config.json"))) return;
  const { problem_type: type } = await readModelConfig(folder);
  if (type === undefined || type === null || type === PROBLEM_TYPES[task]) return;
  const own = taskOfProblemType(type);
  const expected = PROBLEM_TYPES[task] ?? "none, as a reward model has";
  throw new ModelError(
    "MODEL_PROBLEM_TYPE",
    `${name}: config.json says problem_type ${JSON.stringify(type)}, expected ${expected} for the task ${task}`,
    {
      hint:
        own === undefined
          ? "Name a base model without a problem_type."
          : `Give --task ${own}, or name a base model without a problem_type.`,
    },
  );
}

/** Refuses to go on with an adapter that was trained for another task. @throws ConfigError INIT_ADAPTER_TASK */
export async function requireAdapterTask(adapter: string, task: Task): Promise<void> {
  const record = await readRunRecord(adapter);
  const own =
    record === undefined ? (await readAdapterNotes(adapter)).task : (record.config.task?.task ?? "classification");
  if (own === undefined || own === task) return;
  throw new ConfigError("INIT_ADAPTER_TASK", `${adapter}: was trained for the task ${own}, got the task ${task}`, {
    hint: `Give --task ${own}, or start from another adapter.`,
  });
}
