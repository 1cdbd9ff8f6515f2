import {
  defineOptimizer,
  defineOptions,
  type Optimizer,
  type OptimizerContext,
  savedTensor,
  slabStates,
} from "qlora/core";
import { type AdamWOptions, adamWScalars, adamWStep, adamWOptionShape } from "qlora/kernels";

/**
 * AdamW with 32-bit state, in the form of bitsandbytes (see `adamWStep`); equal to torch.optim.AdamW without weight
 * decay. Saved state: `<parameter>/state1` and `/state2` (first and second moment) f32, and `step` [1] u32.
 * @example optimizer: adamW({ weightDecay: 0.01 })
 */
export const adamW = defineOptimizer({
  name: "adamw",
  options: defineOptions(adamWOptionShape),
  create: createAdamW,
});

function createAdamW(options: AdamWOptions, context: OptimizerContext): Optimizer {
  const { gpu } = context;
  const applied = gpu.alloc([1], "u32", "adamw step", "optimizer");
  gpu.clear(applied);
  const moments = slabStates(context, "adamw", ["state1", "state2"]);
  return {
    step({ learningRate, update, gradState }) {
      const scalars = adamWScalars(options, learningRate, update);
      for (const { slab, tensors } of moments.states) adamWStep(gpu, slab, { ...tensors, applied }, gradState, scalars);
    },
    async save() {
      const step = savedTensor("u32", [1], await gpu.readBytes(applied));
      return new Map([["step", step], ...(await moments.save())]);
    },
    load: (state) =>
      moments.load(state, (reader) => {
        const step = reader.take("step", "u32", [1]);
        return () => gpu.write(applied, step);
      }),
    destroy() {
      moments.destroy();
      gpu.free(applied);
    },
  };
}
