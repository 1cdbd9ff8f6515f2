/** Options of the task: what the model gives for a row, and what of the data it is compared with. */
import { defineOptions, option, type InferInput, type InferOptions } from "../../core/options/options.ts";
import type { Task } from "../../core/plugin/task.ts";

export const taskOptions = defineOptions(
  {
    task: option("'classification' | 'regression' | 'multi-label' | 'reward'", {
      default: "classification",
      help: "one class of several; numbers (mean squared error); any of several labels (binary cross entropy); or a score by which the better of two answers wins (Bradley-Terry)",
    }),
    labelColumns: option("string[]", {
      default: [],
      help: "columns of the targets of a regression, or of the labels (0 or 1) of multi-label rows (default: label, a number or a list)",
    }),
    centerRewardsCoefficient: option("number >= 0", {
      default: 0,
      help: "of a reward model: weight of the square of a pair's summed scores, which keeps their mean near zero",
    }),
  },
  ({ task, labelColumns, centerRewardsCoefficient }) => {
    const problems: string[] = [];
    if (labelColumns.length > 0 && task !== "regression" && task !== "multi-label")
      problems.push(
        `labelColumns: got ${labelColumns.join(", ")} with task ${task}, expected regression or multi-label`,
      );
    const twice = labelColumns.find((name, i) => labelColumns.indexOf(name) < i);
    if (twice !== undefined) problems.push(`labelColumns: got ${twice} twice, expected different columns`);
    if (centerRewardsCoefficient > 0 && task !== "reward")
      problems.push(`centerRewardsCoefficient: got ${centerRewardsCoefficient} with task ${task}, expected reward`);
    return problems;
  },
);

export type TaskOptionsInput = InferInput<typeof taskOptions>;
export type TaskOptions = InferOptions<typeof taskOptions>;

/** What a config's `task` may be: a task's name alone, or the section. */
export type TaskInput = TaskOptions["task"] | TaskOptionsInput;

/** The section that a config's `task` stands for; what is neither a name nor an object stays, for the check. */
export const taskSection = (given: TaskInput | undefined): TaskOptionsInput =>
  typeof given === "string" ? { task: given } : (given ?? {});

/** Metrics of each task where nobody names any. */
export const TASK_METRICS: Readonly<Record<Task, readonly string[]>> = {
  classification: ["log-loss", "accuracy"],
  regression: ["mse", "mae", "pearson", "spearman"],
  "multi-label": ["multi-label-f1"],
  reward: ["pair-accuracy"],
};
