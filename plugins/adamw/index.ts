import {
  defineOptimizer,
  defineOptions,
  type Optimizer,
  type OptimizerContext,
  SavedStateReader,
  savedTensor,
  type SavedTensor,
  type Slab,
  type Tensor,
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

interface SlabState {
  readonly slab: Slab;
  readonly state1: Tensor;
  readonly state2: Tensor;
}

function createAdamW(options: AdamWOptions, { gpu, parameters }: OptimizerContext): Optimizer {
  const applied = gpu.alloc([1], "u32", "adamw step", "optimizer");
  const states: SlabState[] = parameters.slabs.map((slab) => ({
    slab,
    state1: gpu.alloc([slab.size], "f32", `adamw state1 of slab ${slab.index}`, "optimizer"),
    state2: gpu.alloc([slab.size], "f32", `adamw state2 of slab ${slab.index}`, "optimizer"),
  }));
  const tensors = [applied, ...states.flatMap(({ state1, state2 }) => [state1, state2])];
  for (const tensor of tensors) gpu.clear(tensor);

  return {
    step({ learningRate, update, gradState }) {
      const scalars = adamWScalars(options, learningRate, update);
      for (const { slab, state1, state2 } of states)
        adamWStep(gpu, slab, { state1, state2, applied }, gradState, scalars);
    },
    async save() {
      const saved = new Map<string, SavedTensor>([["step", savedTensor("u32", [1], await gpu.readBytes(applied))]]);
      for (const { slab, state1, state2 } of states) {
        for (const [key, tensor] of [
          ["state1", state1],
          ["state2", state2],
        ] as const) {
          const values = await gpu.readFloats(tensor);
          for (const p of slab.parameters) {
            saved.set(`${p.name}/${key}`, savedTensor("f32", p.shape, values.subarray(p.start, p.start + p.size)));
          }
        }
      }
      return saved;
    },
    load(state) {
      const reader = new SavedStateReader(state, "adamw");
      const step = reader.take("step", "u32", [1]);
      const filled = states.flatMap(({ slab, state1, state2 }) =>
        (
          [
            ["state1", state1],
            ["state2", state2],
          ] as const
        ).map(([key, tensor]) => {
          const values = new Float32Array(slab.size);
          for (const p of slab.parameters) values.set(reader.takeFloats(`${p.name}/${key}`, p.shape), p.start);
          return { tensor, values };
        }),
      );
      reader.finish();
      gpu.write(applied, step);
      for (const { tensor, values } of filled) gpu.write(tensor, values);
    },
    destroy() {
      for (const tensor of tensors) gpu.free(tensor);
    },
  };
}
