import {
  defineOptimizer,
  defineOptions,
  type Gpu,
  type InferOptions,
  type Optimizer,
  type OptimizerContext,
  option,
  SavedStateReader,
  savedTensor,
  type SavedTensor,
  type Slab,
} from "qlora/core";
import { type AdafactorState, adafactorStep } from "./kernel.ts";
import { layOut } from "./layout.ts";

const options = defineOptions(
  {
    beta2Decay: option("number <= 0", {
      default: -0.8,
      help: "the second moment's decay after t updates is 1 - t^this",
    }),
    eps1: option("number > 0", { default: 2 ** -23, help: "least root of the second moment; f32's epsilon" }),
    eps2: option("number >= 0", { default: 1e-3, help: "least size that a parameter counts as having" }),
    clipThreshold: option("number >= 1", { default: 1, help: "largest root mean square of an update" }),
    weightDecay: option("number >= 0", { default: 0, help: "decoupled weight decay, times the learning rate" }),
  },
  // Its square must be an f32 above 0.
  ({ eps1 }) => (eps1 < 1e-18 ? [`eps1: got ${eps1}, expected at least 1e-18`] : []),
);

/**
 * `torch.optim.Adafactor` (see `adafactorStep`): a second moment kept as one number per row and column, steps relative to
 * the size of each parameter; torch's learning rate is 0.01. Saved state, named as torch does: `<parameter>/row_var`
 * [R,1] and `/col_var` [1,C] f32, `/variance` for vectors.
 * @example optimizer: adafactor()
 */
export const adafactor = defineOptimizer({ name: "adafactor", options, create: createAdafactor });

function stateOf(gpu: Gpu, slab: Slab): AdafactorState {
  const layout = layOut(slab);
  const label = (what: string): string => `adafactor ${what} of slab ${slab.index}`;
  const factors = gpu.alloc([layout.factors], "f32", label("factors"), "optimizer");
  gpu.clear(factors);
  return {
    layout,
    factors,
    ownerOf: gpu.upload(layout.ownerOf, [layout.ownerOf.length], "u32", label("owners of factors"), "optimizer"),
    owners: gpu.upload(layout.owners, [slab.parameters.length, 8], "u32", label("owners"), "optimizer"),
  };
}

function createAdafactor(config: InferOptions<typeof options>, { gpu, parameters }: OptimizerContext): Optimizer {
  const states = parameters.slabs.map((slab) => ({ slab, state: stateOf(gpu, slab) }));
  return {
    step({ learningRate, update, gradState }) {
      for (const { slab, state } of states) adafactorStep(gpu, slab, state, gradState, config, learningRate, update);
    },
    async save() {
      const saved = new Map<string, SavedTensor>();
      for (const { state } of states) {
        const values = await gpu.readFloats(state.factors);
        for (const { name, shape, first, count } of state.layout.parts) {
          saved.set(name, savedTensor("f32", shape, values.subarray(first, first + count)));
        }
      }
      return saved;
    },
    load(saved) {
      const reader = new SavedStateReader(saved, "adafactor");
      const writes = states.map(({ state }) => {
        const values = new Float32Array(state.layout.factors);
        for (const { name, shape, first } of state.layout.parts) values.set(reader.takeFloats(name, shape), first);
        return () => gpu.write(state.factors, values);
      });
      reader.finish();
      for (const write of writes) write();
    },
    destroy() {
      for (const { state } of states) for (const t of [state.factors, state.ownerOf, state.owners]) gpu.free(t);
    },
  };
}
