/** A learning rate of its own for the classification head: two optimizers of one kind, each over its parameters. */
import { parameterSubset } from "../../core/compute/slab-runs.ts";
import type { Optimizer, OptimizerContext, OptimizerPlugin } from "../../core/plugin/optimizer.ts";
import type { Schedule } from "../../core/plugin/schedule.ts";
import type { Config } from "../config/config.ts";
import type { Session } from "../session/session.ts";

/** Before the names of the head's optimizer state in a checkpoint. */
const HEAD = "head/";

/** The optimizer of a run; with `headLearningRate`, one that gives the head its own rate by the same schedule. */
export function createOptimizer(
  { optimizer, training }: Pick<Config, "optimizer" | "training">,
  { gpu, parameters, outline }: Session,
  schedule: Schedule,
): Optimizer {
  const { headLearningRate: peak } = training;
  if (peak === undefined) return optimizer.create({ gpu, parameters });
  const head = outline.head.map(({ name }) => name);
  const headLearningRate = (updates: number): number => peak * schedule.factor(updates);
  return createHeadOptimizer(optimizer, { gpu, parameters }, { head, headLearningRate });
}

/** What {@link createHeadOptimizer} needs beside the optimizer's context. */
interface HeadOptimizerOptions {
  /** Names of the head's parameters. */
  readonly head: readonly string[];
  /** Learning rate of the head. @param updates updates done before */
  readonly headLearningRate: (updates: number) => number;
}

/** One optimizer to the caller; its `learningRate` is that of all parameters but the head's. */
function createHeadOptimizer(
  plugin: OptimizerPlugin,
  { gpu, parameters }: OptimizerContext,
  { head, headLearningRate }: HeadOptimizerOptions,
): Optimizer {
  const names = new Set(head);
  const part = (ofHead: boolean): Optimizer =>
    plugin.create({ gpu, parameters: parameterSubset(gpu, parameters, ({ name }) => names.has(name) === ofHead) });
  const [body, top] = [part(false), part(true)];
  return {
    step(step) {
      body.step(step);
      top.step({ ...step, learningRate: headLearningRate(step.update - 1) });
    },
    async save() {
      const state = await body.save();
      for (const [name, tensor] of await top.save()) state.set(HEAD + name, tensor);
      return state;
    },
    load(state) {
      const entries = [...state];
      const ofHead = entries.filter(([name]) => name.startsWith(HEAD));
      body.load(new Map(entries.filter(([name]) => !name.startsWith(HEAD))));
      top.load(new Map(ofHead.map(([name, tensor]) => [name.slice(HEAD.length), tensor])));
    },
    destroy() {
      body.destroy();
      top.destroy();
    },
  };
}
