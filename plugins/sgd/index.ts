import {
  defineOptimizer,
  defineOptions,
  expectTensor,
  gridFor,
  type InferOptions,
  type Optimizer,
  type OptimizerContext,
  option,
  slabStates,
} from "qlora/core";
import code from "./sgd.wgsl" with { type: "text" };

const options = defineOptions(
  {
    momentum: option("0 <= number < 1", { default: 0.9, help: "share of the last step that is kept" }),
    dampening: option("0 <= number <= 1", { default: 0, help: "what is held back of each gradient after the first" }),
    nesterov: option("boolean", { default: false, help: "look ahead by one step of momentum" }),
    weightDecay: option("number >= 0", { default: 0, help: "times the parameter, added to its gradient" }),
  },
  ({ momentum, dampening, nesterov }) =>
    nesterov && (momentum === 0 || dampening !== 0)
      ? ["nesterov: needs a momentum above 0 and no dampening, as in torch.optim.SGD"]
      : [],
);

/**
 * Stochastic gradient descent with momentum: `torch.optim.SGD`. g = gradient + weightDecay p; b = momentum b +
 * (1 - dampening) g, the first b = g; p -= lr b, or lr (g + momentum b) with nesterov. An element whose gradient is not
 * finite keeps its value and its momentum becomes 0. Saved state: `<parameter>/momentum_buffer` f32.
 * @example optimizer: sgd({ momentum: 0.9 })
 */
export const sgd = defineOptimizer({ name: "sgd", options, create: createSgd });

function createSgd(
  { momentum, dampening, nesterov, weightDecay }: InferOptions<typeof options>,
  context: OptimizerContext,
): Optimizer {
  const { gpu } = context;
  const { states, ...kept } = slabStates(context, "sgd", ["momentum_buffer"]);
  return {
    ...kept,
    step({ learningRate, update, gradState }) {
      expectTensor(gradState, [4], "f32");
      const kernel = gpu.kernel("sgd", () => ({
        code,
        bindings: ["write", "read", "write", "read"],
        uniforms: {
          size: "u32",
          learningRate: "f32",
          momentum: "f32",
          share: "f32",
          weightDecay: "f32",
          nesterov: "u32",
        },
      }));
      const share = update === 1 ? 1 : 1 - dampening;
      for (const { slab, tensors } of states) {
        const { size } = slab;
        const scalars = { size, learningRate, momentum, share, weightDecay, nesterov: nesterov ? 1 : 0 };
        gpu.dispatch(kernel, [slab.value, slab.grad, tensors.momentum_buffer, gradState], scalars, gridFor(size / 256));
      }
    },
  };
}
