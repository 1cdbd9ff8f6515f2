/**
 * Groups of parameters with a learning rate and a weight decay of their own, as torch has parameter groups: an optimizer of one
 * kind for each, over its parameters, all on the run's schedule.
 */
import { parameterSubset } from "../../core/compute/slab-runs.ts";
import type { Parameter } from "../../core/compute/parameters.ts";
import { ConfigError } from "../../core/errors.ts";
import type { Optimizer, OptimizerContext, OptimizerPlugin } from "../../core/plugin/optimizer.ts";
import type { Schedule } from "../../core/plugin/schedule.ts";
import type { Config } from "../config/config.ts";
import type { TrainingOptions } from "../config/training-options.ts";
import type { Session } from "../session/session.ts";

/** Which group a parameter is in; before the names of the group's optimizer state in a checkpoint. */
type GroupName = "" | "head/" | "loraplus/" | "no-decay/" | "head/no-decay/" | "loraplus/no-decay/";

/** What of a parameter its group depends on. */
export type GroupMember = Pick<Parameter, "name" | "shape">;

/** As transformers' `get_decay_parameter_names` has them: biases and norms do not decay. */
const NO_DECAY = [/bias/, /layernorm/, /rmsnorm/, /(?:^|\.)norm(?:$|\.)/, /_norm(?:$|\.)/];

/** Whether weight decay leaves a parameter alone. */
export const isWithoutDecay = (name: string): boolean => NO_DECAY.some((pattern) => pattern.test(name.toLowerCase()));

/** The group of a parameter. LoRA+ is peft's `create_loraplus_optimizer`: every B, and what has one dimension, gets the higher rate. */
export function groupOf(
  { name, shape }: GroupMember,
  isHead: (name: string) => boolean,
  { headLearningRate, loraplusLrRatio }: Pick<TrainingOptions, "headLearningRate" | "loraplusLrRatio">,
): GroupName {
  const decay = isWithoutDecay(name) ? "no-decay/" : "";
  if (headLearningRate !== undefined && isHead(name)) return `head/${decay}`;
  if (loraplusLrRatio !== undefined && (name.includes("lora_B") || shape.length === 1)) return `loraplus/${decay}`;
  return decay;
}

/** The optimizer of a run, over all of its groups. @throws ConfigError where the optimizer has no weight decay that LoRA+ could set */
export function createOptimizer(
  { optimizer, training }: Pick<Config, "optimizer" | "training">,
  { gpu, parameters, outline }: Session,
  schedule: Schedule,
): Optimizer {
  const { learningRate, headLearningRate, loraplusLrRatio = 1 } = training;
  const decaying = loraplusDecay(optimizer, training);
  const fixed = withoutDecay(decaying);
  const heads = new Set(outline.head.map(({ name }) => name));
  const groupFor = (member: GroupMember): GroupName => {
    const group = groupOf(member, (name) => heads.has(name), training);
    // Where nothing decays, one group less.
    return fixed === undefined ? (group.replace("no-decay/", "") as GroupName) : group;
  };
  const names = [...new Set(parameters.parameters.map(groupFor))];
  if (names.length === 1 && names[0] === "") return decaying.create({ gpu, parameters });
  const groups = names.map((name) => {
    const peak = name.startsWith("head/") ? headLearningRate! : learningRate * loraplusLrRatio;
    return {
      name,
      plugin: name.endsWith("no-decay/") ? fixed! : decaying,
      rate: name === "" || name === "no-decay/" ? undefined : (updates: number) => peak * schedule.factor(updates),
    };
  });
  return groupedOptimizer({ gpu, parameters }, groups, groupFor);
}

const decayOf = ({ options }: OptimizerPlugin): unknown => (options as { readonly weightDecay?: unknown }).weightDecay;

const withDecay = (plugin: OptimizerPlugin, weightDecay: number): OptimizerPlugin =>
  plugin.factory.configure({ ...plugin.input, weightDecay });

/** The same without weight decay; undefined where it has none. */
function withoutDecay(plugin: OptimizerPlugin): OptimizerPlugin | undefined {
  const decay = decayOf(plugin);
  return typeof decay === "number" && decay !== 0 ? withDecay(plugin, 0) : undefined;
}

/** The optimizer with `loraplusWeightDecay` in the place of its own. */
function loraplusDecay(plugin: OptimizerPlugin, { loraplusWeightDecay: decay }: TrainingOptions): OptimizerPlugin {
  if (decay === undefined) return plugin;
  if (typeof decayOf(plugin) === "number") return withDecay(plugin, decay);
  throw new ConfigError(
    "OPTIMIZER_GROUPS",
    `training.loraplusWeightDecay: got ${decay} with optimizer ${plugin.name}, which has no option weightDecay`,
    { hint: "Leave it out, or take adamw or adamw8bit." },
  );
}

/** One group. */
interface Group {
  readonly name: GroupName;
  readonly plugin: OptimizerPlugin;
  /** Its learning rate by updates done before; undefined: the run's. */
  readonly rate: ((updates: number) => number) | undefined;
}

/** One optimizer to the caller. */
function groupedOptimizer(
  { gpu, parameters }: OptimizerContext,
  groups: readonly Group[],
  groupFor: (member: GroupMember) => GroupName,
): Optimizer {
  const parts = groups.map(({ name, plugin, rate }) => ({
    name,
    rate,
    optimizer: plugin.create({ gpu, parameters: parameterSubset(gpu, parameters, (p) => groupFor(p) === name) }),
  }));
  /** The longest name that a state's name begins with: the groups' names are paths. */
  const ownerOf = (key: string): GroupName =>
    groups
      .map(({ name }) => name)
      .filter((name) => key.startsWith(name))
      .reduce<GroupName>((longest, name) => (name.length > longest.length ? name : longest), "");
  return {
    step(step) {
      for (const { optimizer, rate } of parts)
        optimizer.step(rate === undefined ? step : { ...step, learningRate: rate(step.update - 1) });
    },
    async save() {
      const state: Awaited<ReturnType<Optimizer["save"]>> = new Map();
      for (const { name, optimizer } of parts)
        for (const [key, tensor] of await optimizer.save()) state.set(name + key, tensor);
      return state;
    },
    load(state) {
      for (const { name, optimizer } of parts) {
        const own = [...state].filter(([key]) => ownerOf(key) === name);
        optimizer.load(new Map(own.map(([key, tensor]) => [key.slice(name.length), tensor])));
      }
    },
    ...(parts.every(({ optimizer }) => optimizer.evaluating === undefined)
      ? {}
      : {
          evaluating(on: boolean) {
            for (const { optimizer } of parts) optimizer.evaluating?.(on);
          },
        }),
    destroy() {
      for (const { optimizer } of parts) optimizer.destroy();
    },
  };
}
