import {
  defineOptimizer,
  defineOptions,
  gridFor,
  type InferOptions,
  type Optimizer,
  type OptimizerContext,
  option,
  SavedStateReader,
  type SavedTensor,
  SlabState,
} from "qlora/core";
import code from "./step.wgsl" with { type: "text" };

const options = defineOptions({
  beta1: option("0 <= number < 1", { default: 0.98, help: "decay of the mean of gradients" }),
  beta2: option("0 <= number < 1", { default: 0.92, help: "decay of the mean of gradient differences" }),
  beta3: option("0 <= number < 1", { default: 0.99, help: "decay of the mean of squares" }),
  eps: option("number > 0", { default: 1e-8, help: "added to the root" }),
  weightDecay: option("number >= 0", { default: 0, help: "decoupled decay" }),
});

/** Adan (Xie et al. 2022, arXiv 2208.06677), as sail-sg/Adan computes it. */
export const adan = defineOptimizer({ name: "adan", options, create: createAdan });

const KEYS = ["exp_avg", "exp_avg_diff", "exp_avg_sq", "previous_grad"] as const;

function createAdan(
  { beta1, beta2, beta3, eps, weightDecay }: InferOptions<typeof options>,
  { gpu, parameters }: OptimizerContext,
): Optimizer {
  const states = parameters.slabs.map((slab) => ({
    slab,
    parts: KEYS.map((key) => new SlabState(gpu, slab, key, "adan")),
  }));
  return {
    step({ learningRate, update, gradState }) {
      const kernel = gpu.kernel("adan/step", () => ({
        code,
        bindings: ["write", "read", "write", "write", "write", "write", "read"],
        uniforms: {
          size: "u32",
          first: "u32",
          learningRate: "f32",
          beta1: "f32",
          beta2: "f32",
          beta3: "f32",
          correction1: "f32",
          correction2: "f32",
          correction3: "f32",
          eps: "f32",
          weightDecay: "f32",
        },
      }));
      const scalars = {
        first: update === 1 ? 1 : 0,
        learningRate,
        beta1,
        beta2,
        beta3,
        eps,
        weightDecay,
        correction1: 1 - beta1 ** update,
        correction2: 1 - beta2 ** update,
        correction3: 1 - beta3 ** update,
      };
      for (const { slab, parts } of states) {
        const tensors = [slab.value, slab.grad, ...parts.map((part) => part.tensor), gradState];
        gpu.dispatch(kernel, tensors, { size: slab.size, ...scalars }, gridFor(slab.size / 256));
      }
    },
    async save() {
      const saved = new Map<string, SavedTensor>();
      for (const { parts } of states) for (const part of parts) await part.save(saved);
      return saved;
    },
    load(state) {
      const reader = new SavedStateReader(state, "adan");
      const writes = states.flatMap(({ parts }) => parts.map((part) => part.load(reader)));
      reader.finish();
      for (const write of writes) write();
    },
    destroy() {
      for (const { parts } of states) for (const part of parts) part.destroy();
    },
  };
}
