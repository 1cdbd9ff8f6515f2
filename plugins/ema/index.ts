import {
  defineOptimizerWrapper,
  defineOptions,
  gridFor,
  type InferInput,
  type OptimizerPlugin,
  option,
  slabStates,
  swapTensors,
} from "qlora/core";
import code from "./ema.wgsl" with { type: "text" };

const options = defineOptions({
  decay: option("0 <= number < 1", { default: 0.999, help: "share of the running average that an update keeps" }),
});
type EmaOptions = InferInput<typeof options>;

/**
 * An exponential moving average of the parameters behind any optimizer: training goes on as it would without it; evaluation and
 * the adapter's files take the average. As torch's `get_ema_multi_avg_fn`: the first update is copied, then
 * average = decay * average + (1 - decay) * value.
 * @example optimizer: ema(adamW8bit(), { decay: 0.99 })
 */
export const ema: (inner: OptimizerPlugin, options?: EmaOptions) => OptimizerPlugin = defineOptimizerWrapper({
  name: "ema",
  options,
  wrap({ decay }, inner, context) {
    const { gpu } = context;
    const { states, ...kept } = slabStates(context, "ema", ["average"]);
    for (const { slab, tensors } of states) gpu.copy(slab.value, tensors.average);
    return {
      ...kept,
      step(step) {
        inner.step(step);
        const kernel = gpu.kernel("ema", () => ({
          code,
          bindings: ["read", "write", "read"],
          uniforms: { size: "u32", update: "u32", rest: "f32" },
        }));
        for (const { slab, tensors } of states) {
          const uniforms = { size: slab.size, update: step.update, rest: 1 - decay };
          gpu.dispatch(kernel, [slab.value, tensors.average, step.gradState], uniforms, gridFor(slab.size / 256));
        }
      },
      evaluating() {
        for (const { slab, tensors } of states) swapTensors(gpu, slab.value, tensors.average);
      },
    };
  },
});
