/** The task of a trained adapter: as its run recorded it, as qlora.json beside it says, else as transformers would take its head. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { isUnsupported, oneLogit, openAdapterTensors, surplusTensor } from "../../core/adapter/saved-tensors.ts";
import { ConfigError, ModelError } from "../../core/errors.ts";
import { ADAPTER_WEIGHTS_FILE, savedModuleKey } from "../../core/formats/peft.ts";
import type { Task } from "../../core/plugin/task.ts";
import { taskOptions, type TaskOptions } from "../config/task-options.ts";
import { openFolder } from "../files/folder.ts";
import type { TrainedAdapter } from "../folder/find-adapter.ts";

/** What a request may say of the task. */
export interface TaskRequest {
  /** The task of an adapter that does not say it itself; one that does must have the same. */
  readonly task?: Task | undefined;
  /** Columns of the labels, where they are others than the run's. */
  readonly labelColumns?: readonly string[] | undefined;
}

/** What an adapter gives for a row. */
export interface AdapterTask {
  readonly options: TaskOptions;
  readonly numLabels: number;
  /** What is to be told where nobody said it. */
  readonly note: string | undefined;
}

/** @throws ConfigError where the request and the adapter disagree; ModelError for a head that is of no such task */
export async function adapterTask(
  adapter: TrainedAdapter,
  { task: asked, labelColumns }: TaskRequest,
): Promise<AdapterTask> {
  const { record, beside, directory } = adapter;
  const numLabels = await adapterLabels(adapter);
  const recorded = record === undefined ? undefined : taskOptions.parse({ ...record.config.task }, "run.json task");
  const known = recorded?.task ?? beside.task;
  if (known !== undefined && asked !== undefined && asked !== known) {
    throw new ConfigError("TASK_DISAGREES", `task: got ${asked}, but ${directory} was trained for the task ${known}`, {
      hint: "Leave --task out: the adapter's own is taken.",
    });
  }
  const task = known ?? asked ?? (numLabels === 1 ? "regression" : "classification");
  const where = `${join(directory, ADAPTER_WEIGHTS_FILE)}: tensor "${savedModuleKey("score")}"`;
  if (task === "classification" && numLabels === 1) throw oneLogit(where);
  if (task === "reward" && numLabels !== 1) {
    throw new ModelError("HEAD_OF_NO_REWARD", `${where} has ${numLabels} logits, expected one for the task reward`, {
      hint: "Name the task that the adapter was trained for: --task classification, say.",
    });
  }
  const guessed = known === undefined && asked === undefined && numLabels === 1;
  return {
    options: taskOptions.parse({ ...recorded, task, ...(labelColumns === undefined ? {} : { labelColumns }) }, "task"),
    numLabels,
    note: guessed
      ? `${directory}: its head has one logit, taken for a regression as transformers does; say --task reward where it is a reward model`
      : undefined,
  };
}

/** Logits of an adapter: rows of the score head that it saved, else as its run recorded. */
async function adapterLabels({ directory, record, beside, config }: TrainedAdapter): Promise<number> {
  const recorded = record?.data.numLabels ?? beside.numLabels;
  if (recorded !== undefined && !existsSync(join(directory, ADAPTER_WEIGHTS_FILE))) return recorded;
  await using file = await openAdapterTensors(openFolder(directory));
  for (const key of file.tensors.keys()) {
    if (isUnsupported(key)) throw surplusTensor(file.path, key);
  }
  const name = savedModuleKey("score");
  const rows = file.tensors.get(name)?.shape[0] ?? recorded;
  if (rows !== undefined) return rows;
  const task = config["task_type"] ?? "SEQ_CLS";
  const what = task === "SEQ_CLS" ? "the head was not saved" : `this is an adapter for ${JSON.stringify(task)}`;
  throw new ModelError("ADAPTER_HEAD_MISSING", `${file.path}: there is no tensor "${name}": ${what}`, {
    hint: "An adapter without its trained score head predicts at random; name one for SEQ_CLS, saved with modules_to_save.",
  });
}
