/**
 * trainer_state.json in the layout of transformers' Trainer, which plotting tools read: keys sorted, two spaces of
 * indent, a final newline.
 * Source: huggingface/transformers, trainer_callback.py (`TrainerState`).
 */
import { ModelError } from "../../core/errors.ts";
import { isObject } from "../../core/formats/json-object.ts";
import { formatPythonJson, parsePythonJson, pyFloat, type PythonJson } from "../../core/formats/python-json.ts";
import { formatValue } from "../../core/options/describe.ts";

/**
 * One line of the log, in the file's own spelling: `{ epoch, step, loss, grad_norm, learning_rate }`,
 * `{ epoch, step, eval_loss, eval_... }`, or at the end `{ epoch, step, train_loss, train_runtime, total_flos, ... }`.
 */
export type LogEntry = { readonly epoch: number; readonly step: number } & Readonly<Record<string, number>>;

/** Where a training run stands; names are those of trainer_state.json in camelCase. */
export interface TrainerState {
  readonly bestGlobalStep: number | null;
  readonly bestMetric: number | null;
  readonly bestModelCheckpoint: string | null;
  /** State of transformers' EarlyStoppingCallback; null where nothing stops early. */
  readonly earlyStopping?: { readonly patience: number; readonly threshold: number; readonly counter: number } | null;
  /** Epochs done, with the fraction of the current one. */
  readonly epoch: number;
  /** Null where the file has none. */
  readonly evalSteps: number | null;
  /** Optimizer steps done. */
  readonly globalStep: number;
  readonly logHistory: readonly LogEntry[];
  readonly loggingSteps: number;
  readonly maxSteps: number;
  readonly numInputTokensSeen: number;
  readonly numTrainEpochs: number;
  readonly saveSteps: number;
  /** True when the run is over. */
  readonly shouldTrainingStop: boolean;
  readonly totalFlos: number;
  /** Rows in a micro-batch. */
  readonly trainBatchSize: number;
}

/** Log values that are whole numbers in Python too; all others are floats. */
const WHOLE = new Set(["step", "num_input_tokens_seen"]);

/** trainer_state.json as text. */
export function formatTrainerState(state: TrainerState): string {
  const json: PythonJson = {
    best_global_step: state.bestGlobalStep,
    best_metric: state.bestMetric === null ? null : pyFloat(state.bestMetric),
    best_model_checkpoint: state.bestModelCheckpoint,
    epoch: pyFloat(state.epoch),
    eval_steps: state.evalSteps,
    global_step: state.globalStep,
    is_hyper_param_search: false,
    is_local_process_zero: true,
    is_world_process_zero: true,
    log_history: state.logHistory.map((entry) =>
      Object.fromEntries(Object.entries(entry).map(([key, n]) => [key, WHOLE.has(key) ? n : pyFloat(n)])),
    ),
    logging_steps: state.loggingSteps,
    max_steps: state.maxSteps,
    num_input_tokens_seen: state.numInputTokensSeen,
    num_train_epochs: state.numTrainEpochs,
    save_steps: state.saveSteps,
    stateful_callbacks: {
      ...(state.earlyStopping && {
        EarlyStoppingCallback: {
          args: {
            early_stopping_patience: state.earlyStopping.patience,
            early_stopping_threshold: pyFloat(state.earlyStopping.threshold),
          },
          attributes: { early_stopping_patience_counter: state.earlyStopping.counter },
        },
      }),
      TrainerControl: {
        args: {
          should_epoch_stop: false,
          should_evaluate: false,
          should_log: false,
          should_save: true,
          should_training_stop: state.shouldTrainingStop,
        },
        attributes: {},
      },
    },
    total_flos: pyFloat(state.totalFlos),
    train_batch_size: state.trainBatchSize,
    trial_name: null,
    trial_params: null,
  };
  return `${formatPythonJson(json)}\n`;
}

/**
 * Reads a trainer_state.json that we or transformers wrote.
 * @param path the file, for messages
 * @throws ModelError TRAINER_STATE_INVALID that lists every problem
 */
export function parseTrainerState(text: string, path: string): TrainerState {
  const problems: string[] = [];
  const json = parseObject(text, path);
  const number = (key: string, fallback?: number): number => {
    const value = json[key] ?? fallback;
    if (typeof value === "number") return value;
    problems.push(value === undefined ? `${key} is missing` : `${key} is ${formatValue(value)}, expected a number`);
    return 0;
  };
  const orNull = <T>(key: string, type: "number" | "string"): T | null => {
    const value = json[key] ?? null;
    if (value === null || typeof value === type) return value as T | null;
    problems.push(`${key} is ${formatValue(value)}, expected a ${type} or null`);
    return null;
  };
  const history = json["log_history"];
  if (!Array.isArray(history) || !history.every(isLogEntry)) {
    problems.push("log_history is not a list of entries of numbers, each with epoch and step");
  }
  const state: TrainerState = {
    bestGlobalStep: orNull("best_global_step", "number"),
    bestMetric: orNull("best_metric", "number"),
    bestModelCheckpoint: orNull("best_model_checkpoint", "string"),
    epoch: number("epoch"),
    evalSteps: orNull("eval_steps", "number"),
    globalStep: number("global_step"),
    logHistory: history as LogEntry[],
    loggingSteps: number("logging_steps"),
    maxSteps: number("max_steps"),
    numInputTokensSeen: number("num_input_tokens_seen", 0),
    numTrainEpochs: number("num_train_epochs"),
    saveSteps: number("save_steps"),
    shouldTrainingStop: trainingStops(json["stateful_callbacks"]),
    totalFlos: number("total_flos", 0),
    // Files before 2024 have none.
    trainBatchSize: number("train_batch_size", 0),
  };
  if (problems.length > 0) throw invalid(path, problems.join("; "));
  return state;
}

function parseObject(text: string, path: string): Readonly<Record<string, unknown>> {
  let value: unknown;
  try {
    value = parsePythonJson(text);
  } catch (error) {
    throw invalid(path, `is not valid JSON (${(error as Error).message})`);
  }
  if (isObject(value)) return value;
  throw invalid(path, "is not a JSON object");
}

function trainingStops(callbacks: unknown): boolean {
  const gradState = isObject(callbacks) ? callbacks["TrainerControl"] : undefined;
  const args = isObject(gradState) ? gradState["args"] : undefined;
  return isObject(args) && args["should_training_stop"] === true;
}

function isLogEntry(value: unknown): value is LogEntry {
  return (
    isObject(value) && "step" in value && "epoch" in value && Object.values(value).every((n) => typeof n === "number")
  );
}

function invalid(path: string, what: string): ModelError {
  return new ModelError("TRAINER_STATE_INVALID", `${path}: ${what}`, {
    hint: "The checkpoint is damaged; resume from an earlier one.",
  });
}
