/** Whether a task goes with the rest of a config. */
import { type MetricPlugin, tasksOf } from "../../core/plugin/metric.ts";
import type { DataOptions } from "./data-options.ts";
import { TASK_METRICS, type TaskOptions } from "./task-options.ts";
import { changedSoftLabelOptions, type TrainingOptions } from "./training-options.ts";

/** What is checked: the sections, and the plugins that depend on the task. */
interface TaskConfig {
  readonly task: TaskOptions;
  readonly data: DataOptions;
  readonly training: TrainingOptions;
  readonly metrics: readonly MetricPlugin[];
  /** The config's own loss. */
  readonly loss: { readonly name: string } | undefined;
}

/** Options of classes with a task that has none, and metrics of other tasks. */
export function taskProblems({ task: { task }, data, training, metrics, loss }: TaskConfig): string[] {
  const problems = metrics.flatMap((metric, i) => {
    const tasks = tasksOf(metric);
    if (tasks.includes(task)) return [];
    const others = TASK_METRICS[task].join(", ");
    return [
      `metrics[${i}]: got ${metric.name}, which serves ${tasks.join(", ")}, with task ${task}, expected such as ${others}`,
    ];
  });
  if (task === "classification") return problems;
  const unused = (name: string, got: string): void =>
    void problems.push(`${name}: got ${got} with task ${task}, which has no classes, expected task classification`);
  if (training.labelSmoothingFactor !== 0)
    unused("training.labelSmoothingFactor", String(training.labelSmoothingFactor));
  if (data.weightColumn !== undefined)
    problems.push(
      `data.weightColumn: got ${data.weightColumn} with task ${task}, expected task classification: only its loss has weights`,
    );
  if (training.loss !== "auto") unused("training.loss", training.loss);
  if (training.classWeights !== undefined) unused("training.classWeights", training.classWeights.join(", "));
  for (const { option, got } of changedSoftLabelOptions(training)) unused(`training.${option}`, String(got));
  if (data.softLabelColumns.length > 0) unused("data.softLabelColumns", data.softLabelColumns.join(", "));
  if (data.softLabelFile !== undefined) unused("data.softLabelFile", data.softLabelFile);
  if (data.swapAugment) unused("data.swapAugment", "true");
  if (task === "reward" && loss !== undefined)
    problems.push(`loss: got ${loss.name} with task reward, whose loss is of pairs of rows; leave one of them out`);
  return problems;
}
