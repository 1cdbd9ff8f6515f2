import {
  defineOptimizer,
  defineOptions,
  gridFor,
  type InferOptions,
  type Optimizer,
  type OptimizerContext,
  option,
  slabStates,
} from "qlora/core";
import code from "./step.wgsl" with { type: "text" };

const options = defineOptions({
  momentum: option("0 <= number < 1", { default: 0.9, help: "share of the running mean of gradients that is kept" }),
  weightDecay: option("number >= 0", { default: 0, help: "times learning rate and parameter, taken off it" }),
});

/**
 * Steps of one size along the sign of the running mean of gradients: Signum (Bernstein et al. 2018, arXiv 1802.04434).
 * m = momentum m + (1 - momentum) g; p -= lr (sign(m) + weightDecay p).
 * @example optimizer: myPlugin({ momentum: 0.9 })
 */
export const myPlugin = defineOptimizer({ name: "my-plugin", options, create: createOptimizer });

function createOptimizer(
  { momentum, weightDecay }: InferOptions<typeof options>,
  context: OptimizerContext,
): Optimizer {
  const { gpu } = context;
  // Parameters lie end to end in a few slabs; the state has a tensor beside each, which is saved and loaded by its parameters' names.
  const { states, ...kept } = slabStates(context, "my-plugin", ["mean"]);
  return {
    ...kept,
    step({ learningRate, gradState }) {
      const kernel = gpu.kernel("my-plugin/step", () => ({
        code,
        bindings: ["write", "read", "write", "read"],
        uniforms: { size: "u32", learningRate: "f32", momentum: "f32", weightDecay: "f32" },
      }));
      for (const { slab, tensors } of states) {
        const uniforms = { size: slab.size, learningRate, momentum, weightDecay };
        gpu.dispatch(kernel, [slab.value, slab.grad, tensors.mean, gradState], uniforms, gridFor(slab.size / 256));
      }
    },
  };
}
