import { describe, expect, test } from "bun:test";
import { ModelError } from "../../core/errors.ts";
import { formatTrainerState, parseTrainerState, type TrainerState } from "../../runtime/folder/trainer-state.ts";

const state: TrainerState = {
  bestGlobalStep: 125,
  bestMetric: 0.3951033353805542,
  bestModelCheckpoint: "output/checkpoint-125",
  epoch: 3,
  evalSteps: 125,
  globalStep: 375,
  logHistory: [
    { step: 20, loss: 0.6899, grad_norm: 0.7468545436859131, epoch: 0.16, learning_rate: 9.386666666666667e-5 },
    { epoch: 1, step: 125, eval_loss: 0.3951033353805542, eval_runtime: 3, eval_acc: 1 },
    { epoch: 3, step: 375, train_loss: 0.5, total_flos: 202109110272000, num_input_tokens_seen: 1024 },
  ],
  loggingSteps: 20,
  maxSteps: 375,
  numInputTokensSeen: 1024,
  numTrainEpochs: 3,
  saveSteps: 500,
  shouldTrainingStop: true,
  totalFlos: 202109110272000,
  trainBatchSize: 16,
};

/** The layout of transformers 5.17, by hand. */
const text = `{
  "best_global_step": 125,
  "best_metric": 0.3951033353805542,
  "best_model_checkpoint": "output/checkpoint-125",
  "epoch": 3.0,
  "eval_steps": 125,
  "global_step": 375,
  "is_hyper_param_search": false,
  "is_local_process_zero": true,
  "is_world_process_zero": true,
  "log_history": [
    {
      "epoch": 0.16,
      "grad_norm": 0.7468545436859131,
      "learning_rate": 9.386666666666667e-05,
      "loss": 0.6899,
      "step": 20
    },
    {
      "epoch": 1.0,
      "eval_acc": 1.0,
      "eval_loss": 0.3951033353805542,
      "eval_runtime": 3.0,
      "step": 125
    },
    {
      "epoch": 3.0,
      "num_input_tokens_seen": 1024,
      "step": 375,
      "total_flos": 202109110272000.0,
      "train_loss": 0.5
    }
  ],
  "logging_steps": 20,
  "max_steps": 375,
  "num_input_tokens_seen": 1024,
  "num_train_epochs": 3,
  "save_steps": 500,
  "stateful_callbacks": {
    "TrainerControl": {
      "args": {
        "should_epoch_stop": false,
        "should_evaluate": false,
        "should_log": false,
        "should_save": true,
        "should_training_stop": true
      },
      "attributes": {}
    }
  },
  "total_flos": 202109110272000.0,
  "train_batch_size": 16,
  "trial_name": null,
  "trial_params": null
}
`;

test("the text is transformers' layout, byte for byte", () => {
  expect(formatTrainerState(state)).toBe(text);
});

test("what was written is read back, NaN included", () => {
  expect(parseTrainerState(text, "x")).toEqual(state);
  const odd: TrainerState = {
    ...state,
    bestGlobalStep: null,
    bestMetric: null,
    bestModelCheckpoint: null,
    evalSteps: null,
    shouldTrainingStop: false,
    logHistory: [{ epoch: 0.1, step: 1, loss: Number.NaN, grad_norm: Number.POSITIVE_INFINITY }],
  };
  expect(parseTrainerState(formatTrainerState(odd), "x")).toEqual(odd);
});

test("a file of 2023, without the newer fields", () => {
  const old = JSON.parse(text) as Record<string, unknown>;
  for (const key of [
    "best_global_step",
    "eval_steps",
    "stateful_callbacks",
    "train_batch_size",
    "num_input_tokens_seen",
  ])
    delete old[key];
  expect(parseTrainerState(JSON.stringify(old), "x")).toEqual({
    ...state,
    bestGlobalStep: null,
    evalSteps: null,
    shouldTrainingStop: false,
    trainBatchSize: 0,
    numInputTokensSeen: 0,
  });
});

describe("a damaged file is a ModelError", () => {
  for (const [what, damaged, says] of [
    ["half a file", text.slice(0, 300), "not valid JSON"],
    ["a list", "[]", "not a JSON object"],
    ["no global_step", text.replace('"global_step"', '"step"'), "global_step is missing"],
    ["a word for a number", text.replace('"max_steps": 375', '"max_steps": "all"'), 'max_steps is "all"'],
    ["a log entry without step", text.replace('"step": 20', '"stop": 20'), "log_history"],
  ] as const) {
    test(what, () => {
      expect(() => parseTrainerState(damaged, "dir/trainer_state.json")).toThrow(ModelError);
      expect(() => parseTrainerState(damaged, "dir/trainer_state.json")).toThrow(says);
      expect(() => parseTrainerState(damaged, "dir/trainer_state.json")).toThrow("dir/trainer_state.json");
    });
  }
});
