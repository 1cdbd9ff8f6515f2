/** What a model is trained to give: the tasks of transformers' heads for sequences, and a reward model's. */

export const TASKS = ["classification", "regression", "multi-label", "reward"] as const;

/**
 * One class of several (cross entropy), numbers (mean squared error), any of several labels (binary cross entropy), or a score
 * by which the better of two answers wins (Bradley-Terry).
 */
export type Task = (typeof TASKS)[number];

/** transformers' `problem_type` of each; a reward model of trl has none. */
export const PROBLEM_TYPES: Readonly<Record<Task, string | undefined>> = {
  classification: "single_label_classification",
  regression: "regression",
  "multi-label": "multi_label_classification",
  reward: undefined,
};

/** The task of a `problem_type`, as config.json has it; undefined for what is none. */
export const taskOfProblemType = (type: unknown): Task | undefined =>
  TASKS.find((task) => type !== undefined && PROBLEM_TYPES[task] === type);
