/** The optimizer: what it gets, what it gives, and `defineOptimizer`, which declares one. */
import type { ParameterSet } from "../compute/parameters.ts";
import type { SavedTensor } from "../compute/saved-state.ts";
import type { Gpu } from "../device/gpu.ts";
import type { Tensor } from "../device/tensor.ts";
import type { OptionShape } from "../options/options.ts";
import { type Parts, complete } from "./check.ts";
import { definePlugin, type Plugin, type PluginDefinition, type TypedPluginFactory } from "./factory.ts";

/** What an optimizer gets. */
export interface OptimizerContext {
  readonly gpu: Gpu;
  readonly parameters: ParameterSet;
}

/** One update. */
export interface OptimizerStep {
  readonly learningRate: number;
  /** 1 for the first update that is applied; skipped steps do not count. */
  readonly update: number;
  /**
   * [4] f32 on the GPU: the factor that unscales and clips gradients; 1 where the step must be skipped (a gradient was
   * not finite), else 0; the gradient norm before clipping; unused.
   */
  readonly gradState: Tensor;
}

/** Updates parameters from their gradients, in place, on the GPU. */
export interface Optimizer {
  step(step: OptimizerStep): void;
  /**
   * For an optimizer whose averages are what is wanted in the end: true puts the values for evaluation in the place of the
   * parameters', false puts those of training back, bit for bit (`swapTensors`). Evaluation and the adapter's files take the
   * former; between the two, nothing steps, saves or loads.
   */
  evaluating?(on: boolean): void;
  /** State by name, exact. Of the parameters' own values, the run keeps those that `evaluating` hides. */
  save(): Promise<Map<string, SavedTensor>>;
  /** @throws ModelError naming a tensor that is missing or of another shape */
  load(state: ReadonlyMap<string, SavedTensor>): void;
  destroy(): void;
}

/** A configured optimizer, as a config holds it. */
export type OptimizerPlugin = Plugin<"optimizer", readonly [OptimizerContext], Optimizer>;

/**
 * Declares an optimizer.
 * @example
 * // p -= lr p: an optimizer that looks at no gradient. examples/one-file-plugin.ts has a kernel of its own.
 * export const shrink = defineOptimizer({
 *   name: "shrink",
 *   options: defineOptions({ times: option("number >= 0", { default: 1, help: "times the learning rate" }) }),
 *   create: ({ times }, { gpu, parameters }) => ({
 *     step({ learningRate }) {
 *       for (const { value } of parameters.slabs) {
 *         const code = "@group(0) @binding(0) var<storage, read_write> p: array<f32>;\n" +
 *           "@compute @workgroup_size(256) fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) n: vec3<u32>," +
 *           "@builtin(local_invocation_index) lane: u32) { let i = group_index(wg, n) * 256u + lane;" +
 *           "if (i < params.size) { p[i] -= params.rate * p[i]; } }";
 *         const size = elementCount(value.shape);
 *         const kernel = gpu.kernel("shrink", () => ({ code, bindings: ["write"], uniforms: { size: "u32", rate: "f32" } }));
 *         gpu.dispatch(kernel, [value], { size, rate: times * learningRate }, gridFor(size / 256));
 *       }
 *     },
 *     save: async () => new Map(),
 *     load() {},
 *     destroy() {},
 *   }),
 * });
 */
export function defineOptimizer<const S extends OptionShape>(
  definition: PluginDefinition<S, readonly [OptimizerContext], Optimizer>,
): TypedPluginFactory<"optimizer", S, readonly [OptimizerContext], Optimizer> {
  return definePlugin("optimizer", definition, { complete: completeOptimizer });
}

const OPTIMIZER: Parts<Optimizer> = {
  step: "function",
  evaluating: "function?",
  save: "function",
  load: "function",
  destroy: "function",
};

/** @throws PluginError */
export const completeOptimizer = (name: string, made: Optimizer): Optimizer =>
  complete(made, OPTIMIZER, { kind: "optimizer", name, method: "create" });
