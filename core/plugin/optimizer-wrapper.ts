/** An optimizer around any other: `ema(adamW8bit(), { decay: 0.99 })`, as optax chains transformations. */
import type { SavedTensor } from "../compute/saved-state.ts";
import { ModelError, PluginError } from "../errors.ts";
import {
  defineOptions,
  type OptionSet,
  type OptionShape,
  type OptionsInput,
  type OptionsOutput,
} from "../options/options.ts";
import { definePlugin } from "./factory.ts";
import { completeOptimizer, type Optimizer, type OptimizerContext, type OptimizerPlugin } from "./optimizer.ts";

/** What a wrapper has of the optimizer inside: its state is saved, loaded and freed without the wrapper. */
export type InnerOptimizer = Pick<Optimizer, "step">;

/** What an author of a wrapper writes. */
export interface OptimizerWrapperDefinition<S extends OptionShape> {
  readonly name: string;
  readonly options: OptionSet<S>;
  /**
   * The optimizer with this around it. `step` calls the inner one's where it likes; `save`, `load` and `destroy` are of the
   * wrapper's own state. Without an `evaluating` of its own the inner one's holds.
   */
  wrap(options: OptionsOutput<S>, inner: InnerOptimizer, context: OptimizerContext): Optimizer;
}

/** A wrapper, as a config calls it. */
export type OptimizerWrapper<S extends OptionShape> = (
  inner: OptimizerPlugin,
  ...options: Record<never, never> extends OptionsInput<S> ? [options?: OptionsInput<S>] : [options: OptionsInput<S>]
) => OptimizerPlugin;

/**
 * Declares a wrapper. The plugin that it gives has the options of both, and is called `wrapper(inner)`.
 * @example
 * // Every second update counts double.
 * export const everySecond = defineOptimizerWrapper({
 *   name: "every-second",
 *   options: defineOptions({ factor: option("number > 0", { default: 2, help: "times the learning rate" }) }),
 *   wrap: ({ factor }, inner) => ({
 *     step: (step) => inner.step(step.update % 2 === 0 ? { ...step, learningRate: factor * step.learningRate } : step),
 *     save: async () => new Map(),
 *     load() {},
 *     destroy() {},
 *   }),
 * });
 * console.log(everySecond(sgd(), { factor: 3 }).name); // every-second(sgd)
 */
export function defineOptimizerWrapper<const S extends OptionShape>(
  definition: OptimizerWrapperDefinition<S>,
): OptimizerWrapper<S> {
  const { name, options } = definition;
  return (inner, ...[given]) => {
    const { shape } = inner.factory.options;
    const twice = Object.keys(options.shape).find((key) => key in shape);
    if (twice !== undefined) {
      throw new PluginError("PLUGIN_OPTIONS", `${name}(${inner.name}): both have an option ${twice}, expected one`, {
        hint: `Give the option of ${name} another name.`,
      });
    }
    const part = (all: object, of: OptionShape): object =>
      Object.fromEntries(Object.entries(all).filter(([key]) => key in of));
    const both = defineOptions({ ...shape, ...options.shape }, (values) =>
      [inner.factory.options, options].flatMap((set) => {
        const checked = set.check(part(values, set.shape));
        return checked.ok ? [] : checked.problems;
      }),
    );
    const factory = definePlugin(
      "optimizer",
      {
        name: `${name}(${inner.name})`,
        options: both,
        create(values: object, context: OptimizerContext): Optimizer {
          const configured = inner.factory.configure(part(values, shape));
          const within = configured.create(context);
          const own = definition.wrap(options.parse(part(values, options.shape)), within, context);
          return joined(name, completeOptimizer(`${name}(${inner.name})`, own), within);
        },
      },
      { complete: completeOptimizer },
    );
    return factory.configure({ ...inner.input, ...given });
  };
}

/** Both as one: the wrapper's state is saved under its name. */
function joined(name: string, own: Optimizer, inner: Optimizer): Optimizer {
  const prefix = `${name}/`;
  const evaluates = own.evaluating === undefined ? inner : own;
  return {
    step: (step) => own.step(step),
    async save() {
      const state = new Map<string, SavedTensor>();
      for (const [key, tensor] of await own.save()) state.set(prefix + key, tensor);
      for (const [key, tensor] of await inner.save()) state.set(key, tensor);
      return state;
    },
    load(state) {
      const entries = [...state];
      const ours = entries.filter(([key]) => key.startsWith(prefix));
      try {
        own.load(new Map(ours.map(([key, tensor]) => [key.slice(prefix.length), tensor])));
      } catch (error) {
        // The names of the checkpoint, where it says which tensor does not fit.
        if (!(error instanceof ModelError)) throw error;
        const { code, message, hint } = error;
        throw new ModelError(code, message.replace(/tensor "/, `tensor "${prefix}`), { hint, cause: error });
      }
      inner.load(new Map(entries.filter(([key]) => !key.startsWith(prefix))));
    },
    ...(evaluates.evaluating === undefined ? {} : { evaluating: (on: boolean) => evaluates.evaluating!(on) }),
    destroy() {
      own.destroy();
      inner.destroy();
    },
  };
}
