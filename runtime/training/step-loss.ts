/** The loss of a run: which one the config asks for, and what it compares each sample with. */
import { ConfigError } from "../../core/errors.ts";
import type { Config } from "../config/config.ts";
import { computeLoss, defineLoss, type Loss } from "../config/loss.ts";
import { changedSoftLabelOptions } from "../config/training-options.ts";
import type { DataRow } from "../data/formats/index.ts";
import type { RunListener } from "../events.ts";
import { rowWeights } from "./row-weights.ts";
import { pairwiseLoss } from "./pairwise.ts";
import type { StepSettings, StepLoss } from "./step.ts";
import { createTargets } from "./targets.ts";
import { taskKinds } from "./tasks/index.ts";

const COLUMNS_HINT = "Name the columns with the probability of each class: --soft-label-columns p_a,p_b,p_tie";

/**
 * @param rows the training rows; samples name them by index
 * @throws ConfigError where the loss does not fit the data
 */
export function createStepLoss(
  rows: readonly DataRow[],
  { loss: own, task, training }: Pick<Config, "loss" | "training"> & Partial<Pick<Config, "task">>,
  numLabels: number,
  onEvent?: RunListener,
): StepLoss {
  if (own !== undefined && task !== undefined && task.task !== "classification") return { rowLoss: rowLoss(own, rows) };
  const taskLoss = task && taskKinds[task.task].loss?.(rows, task);
  if (taskLoss !== undefined && rows.some((row) => row.weight !== undefined)) {
    throw new ConfigError(
      "LOSS_DATA",
      `data.weightColumn: got one with task ${task!.task}, whose loss weighs no rows`,
      {
        hint: "Leave weightColumn out, or give a loss of your own (defineLoss).",
      },
    );
  }
  if (taskLoss !== undefined) return { taskLoss };
  const name = own?.name ?? training.loss;
  const hasSoft = rows.some((row) => row.soft !== undefined);
  if (name === "soft-label" && !hasSoft) {
    throw new ConfigError("LOSS_DATA", "training.loss: got soft-label without data.softLabelColumns, expected both", {
      hint: COLUMNS_HINT,
    });
  }
  const [unused] = own === undefined && !hasSoft ? changedSoftLabelOptions(training) : [];
  if (unused !== undefined) {
    const { option, got } = unused;
    throw new ConfigError(
      "LOSS_DATA",
      `training.${option}: got ${got} without data.softLabelColumns, which leaves it unused, expected both`,
      { hint: `${COLUMNS_HINT}; or leave ${option} out.` },
    );
  }
  if (own !== undefined) return { rowLoss: rowLoss(own, rows) };
  if (name === "pairwise") return { rowLoss: rowLoss(pairwise(training.pairwiseWeight, numLabels, onEvent), rows) };
  const softLabelWeight = name === "cross-entropy" ? 0 : training.softLabelWeight;
  const targets = createTargets({ rows }, { ...training, softLabelWeight }, numLabels);
  if (targets === undefined) return {};
  return {
    targets: { terms: targets.terms, of: (samples) => targets.of(samples.map(({ index }) => rows[index]!)) },
  };
}

function rowLoss(loss: Loss, rows: readonly DataRow[]): StepSettings["rowLoss"] {
  const weightOf = rowWeights(rows);
  return ({ index }, logits) => {
    const row = rows[index]!;
    const output = computeLoss(loss, {
      logits,
      label: row.label ?? Number.NaN,
      soft: row.soft,
      values: row.values,
      row,
    });
    if (weightOf === undefined) return output;
    const weight = weightOf(row);
    return { loss: weight * output.loss, dLogits: Array.from(output.dLogits, (value) => weight * value) };
  };
}

function pairwise(weight: number, numLabels: number, onEvent: RunListener | undefined): Loss {
  if (numLabels > 3) {
    throw new ConfigError(
      "LOSS_DATA",
      `training.loss: got pairwise with ${numLabels} classes, expected 2 (A wins, B wins) or 3 (and tie)`,
    );
  }
  if (numLabels === 3 && weight === 1) {
    onEvent?.({
      type: "warning",
      message:
        "loss pairwise leaves the tie's logit untrained: probabilities of three classes mean little; " +
        "set pairwiseWeight below 1 to blend in cross entropy",
    });
  }
  return defineLoss({ name: "pairwise", options: { weight }, compute: (input) => pairwiseLoss(input, weight) });
}
