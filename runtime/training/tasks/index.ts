/** The tasks that the option `task` names. */
import type { Task } from "../../../core/plugin/task.ts";
import { classification } from "./classification.ts";
import { multiLabel } from "./multi-label.ts";
import { regression } from "./regression.ts";
import { reward } from "./reward.ts";
import type { TaskKind } from "./task.ts";

export const taskKinds: Readonly<Record<Task, TaskKind>> = {
  classification,
  regression,
  "multi-label": multiLabel,
  reward,
};
