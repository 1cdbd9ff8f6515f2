/** training_state.json, checked as a config is: types, ranges, and that its parts agree with each other. */
import { ModelError } from "../../core/errors.ts";
import { isObject } from "../../core/formats/json-object.ts";
import { formatValue } from "../../core/options/describe.ts";
import { type BestModelState, noBestModel } from "../training/best-model.ts";
import type { GradScalerState } from "../training/grad-scaler.ts";
import type { TrainerState, LogEntry } from "./trainer-state.ts";

type Json = Readonly<Record<string, unknown>>;

const isCount = (value: unknown): boolean => Number.isSafeInteger(value) && Number(value) >= 0;
/** JSON has no NaN: what was none is null. */
const isNumberOrNull = (value: unknown): boolean =>
  value === null || (typeof value === "number" && Number.isFinite(value));
const isText = (value: unknown): boolean => typeof value === "string" && value !== "";

const COUNT = "a whole number from 0 on";

/** What each field holds. */
const FIELDS: Readonly<Record<string, readonly [expected: string, is: (value: unknown) => boolean]>> = {
  step: [COUNT, isCount],
  updates: [COUNT, isCount],
  skipped: [COUNT, isCount],
  tokens: [COUNT, isCount],
  data: ["a fingerprint", isText],
  evaluation: ["a fingerprint or null", (value) => value === null || isText(value)],
  seed: [COUNT, isCount],
  samplesPerStep: ["a whole number from 1 on", (value) => isCount(value) && value !== 0],
  optimizer: ["the name of an optimizer", isText],
  totalLoss: ["a number", (value) => typeof value === "number" && Number.isFinite(value)],
  nonFinite: [COUNT, isCount],
  history: ["a list of log entries", Array.isArray],
};

const SINCE_LOG: typeof FIELDS = {
  loss: ["a number or null", isNumberOrNull],
  steps: [COUNT, isCount],
  skipped: [COUNT, isCount],
};

const isCountOrNull = (value: unknown): boolean => value === null || isCount(value);
const COUNT_OR_NULL = "a whole number from 0 on or null";

const BEST: typeof FIELDS = {
  metric: ["a number or null", isNumberOrNull],
  step: [COUNT_OR_NULL, isCountOrNull],
  checkpoint: [COUNT_OR_NULL, isCountOrNull],
  patience: [COUNT, isCount],
};

const positive = (value: unknown): boolean => typeof value === "number" && value > 0 && Number.isFinite(value);

const SCALER: typeof FIELDS = {
  scale: ["a number above 0 that f32 holds", (value) => positive(value) && Number.isFinite(Math.fround(Number(value)))],
  growthFactor: ["a number above 1", (value) => positive(value) && Number(value) > 1],
  backoffFactor: ["a number between 0 and 1", (value) => positive(value) && Number(value) < 1],
  growthInterval: ["a whole number from 1 on", (value) => isCount(value) && value !== 0],
  growthTracker: [COUNT, isCount],
};

/** What states of qlora 0.1.0 and 0.2.0 lack. */
const LATER: Json = { evaluation: null, nonFinite: 0, best: noBestModel };

/**
 * The state that a training_state.json and the trainer_state.json beside it hold.
 * @throws ModelError TRAINING_STATE_INVALID listing every problem
 */
export function parseTrainingState(json: Json, trainer: TrainerState, path: string): TrainingState {
  const whole: Json = { ...LATER, ...json };
  const problems = [
    ...fieldProblems(whole, FIELDS, ""),
    ...partProblems(whole["sinceLog"], SINCE_LOG, "sinceLog"),
    ...partProblems(whole["best"], BEST, "best"),
    ...(whole["scaler"] === null ? [] : partProblems(whole["scaler"], SCALER, "scaler")),
  ];
  if (problems.length > 0) throw invalid(path, problems);
  const state = whole as unknown as TrainingState;
  const contradictory = contradictions(state);
  if (contradictory.length > 0) throw invalid(path, contradictory);
  const disagreements = differences(state, trainer);
  if (disagreements.length > 0) throw invalid(path, disagreements);
  const { loss, ...since } = state.sinceLog;
  // trainer_state.json tells NaN from infinity.
  return { ...state, sinceLog: { ...since, loss: loss ?? Number.NaN }, history: trainer.logHistory };
}

function fieldProblems(json: Json, fields: typeof FIELDS, prefix: string): string[] {
  return Object.entries(fields).flatMap(([key, [expected, is]]) => {
    const value = Object.hasOwn(json, key) ? json[key] : undefined;
    return is(value) ? [] : [`${prefix}${key}: got ${formatValue(value)}, expected ${expected}`];
  });
}

function partProblems(part: unknown, fields: typeof FIELDS, name: string): string[] {
  if (!isObject(part)) return [`${name}: got ${formatValue(part)}, expected an object`];
  return fieldProblems(part, fields, `${name}.`);
}

/** What of a state cannot be so together. */
function contradictions({
  step,
  updates,
  skipped,
  nonFinite,
  sinceLog,
  scaler,
  history,
  best,
}: TrainingState): string[] {
  const problems: string[] = [];
  if (updates + skipped !== step)
    problems.push(`step: got ${step}, expected updates and skipped together, ${updates} + ${skipped}`);
  if (nonFinite > step) problems.push(`nonFinite: got ${nonFinite} of ${step} steps`);
  if (sinceLog.steps > step || sinceLog.skipped > Math.min(skipped, sinceLog.steps))
    problems.push(
      `sinceLog: got ${sinceLog.steps} steps, ${sinceLog.skipped} skipped, of ${step} with ${skipped} skipped`,
    );
  if (scaler !== null && scaler.growthTracker >= scaler.growthInterval)
    problems.push(
      `scaler.growthTracker: got ${scaler.growthTracker}, expected less than growthInterval, ${scaler.growthInterval}`,
    );
  if ((best.metric === null) !== (best.step === null))
    problems.push("best: got one of metric and step, expected both or neither");
  if ((best.step ?? 0) > step || (best.checkpoint ?? 0) > (best.step ?? 0))
    problems.push(
      `best: got step ${best.step} and checkpoint ${best.checkpoint}, expected steps up to ${step}, in order`,
    );
  const steps = history.map((entry: unknown) => (isObject(entry) ? entry["step"] : undefined));
  const wrong = steps.findIndex((at, i) => !isCount(at) || Number(at) > step || Number(at) < Number(steps[i - 1] ?? 0));
  if (wrong >= 0)
    problems.push(`history[${wrong}].step: got ${formatValue(steps[wrong])}, expected steps up to ${step} in order`);
  return problems;
}

/** Where the two files of a checkpoint disagree. */
function differences(state: TrainingState, trainer: TrainerState): string[] {
  const pairs = [
    ["step", state.step, "global_step", trainer.globalStep],
    ["tokens", state.tokens, "num_input_tokens_seen", trainer.numInputTokensSeen],
    ["history", `${state.history.length} entries`, "log_history", `${trainer.logHistory.length} entries`],
  ] as const;
  const problems = pairs.flatMap(([ours, is, theirs, other]) =>
    is === other ? [] : [`${ours}: got ${is}, but ${theirs} of trainer_state.json is ${other}`],
  );
  if (problems.length > 0) return problems;
  const at = state.history.findIndex((entry, i) => shown(entry) !== shown(trainer.logHistory[i]!));
  return at < 0 ? [] : [`history[${at}]: is not log_history[${at}] of trainer_state.json`];
}

/** An entry as JSON, keys sorted; what is no finite number is null. */
const shown = (entry: Readonly<Record<string, number>>): string => JSON.stringify(entry, Object.keys(entry).sort());

function invalid(path: string, problems: readonly string[]): ModelError {
  const list =
    problems.length === 1 ? ` ${problems[0]}` : `\n${problems.map((problem) => `  - ${problem}`).join("\n")}`;
  return new ModelError("TRAINING_STATE_INVALID", `${path}:${list}`, {
    hint: "The checkpoint is damaged: go on from an earlier one, --resume-from-checkpoint FOLDER.",
  });
}

/** Where a run stands after a step; plain JSON. */
export interface TrainingState {
  readonly version: 1;
  /** Optimizer steps done, skipped ones included. */
  readonly step: number;
  /** Updates applied; the learning rate and the optimizer count by it. */
  readonly updates: number;
  readonly skipped: number;
  /** Non-padding tokens seen. */
  readonly tokens: number;
  readonly scaler: GradScalerState | null;
  /** Fingerprint of the training data, tokenizer and truncation. */
  readonly data: string;
  /** The same of the rows held out; null where there are none, or where qlora 0.1.0 saved it. */
  readonly evaluation: string | null;
  readonly seed: number;
  readonly samplesPerStep: number;
  readonly optimizer: string;
  /** Losses and norms since the last log. */
  readonly sinceLog: { readonly loss: number; readonly steps: number; readonly skipped: number };
  /** Of the steps whose loss is finite. */
  readonly totalLoss: number;
  /** Steps whose loss is not. */
  readonly nonFinite: number;
  readonly history: readonly LogEntry[];
  readonly best: BestModelState;
}
