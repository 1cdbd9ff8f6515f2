import { type Config, requireConfig } from "../runtime/config/config.ts";
import { checkTrainOptions, type TrainOptions, type TrainResult, type TrainStep } from "../runtime/run/train-types.ts";
import { trainSteps } from "../runtime/run/train.ts";

/**
 * A training run, one optimizer step at a time; the run's folder is complete when the loop ends. `step.stop()` makes a step
 * the last one of a finished run; `break` saves a checkpoint, from which the run can go on.
 * @throws ConfigError, DataError, ModelError, DeviceError
 * @example for await (const step of trainer(config)) console.log(step.step, step.loss);
 */
export function trainer(config: Config, options: TrainOptions = {}): AsyncGenerator<TrainStep, TrainResult> {
  return trainSteps(requireConfig(config), checkTrainOptions(options));
}

/**
 * Trains to the end.
 * @throws ConfigError, DataError, ModelError, DeviceError
 * @example const { metrics } = await train(defineConfig({ model: gemma2({ checkpoint }), adapter: lora(), optimizer: adamW8bit(), data: { trainFiles } }));
 */
export async function train(config: Config, options?: TrainOptions): Promise<TrainResult> {
  const steps = trainer(config, options);
  for (;;) {
    const { done, value } = await steps.next();
    if (done === true) return value;
  }
}
