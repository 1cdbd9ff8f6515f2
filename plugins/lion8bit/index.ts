import {
  defineOptimizer,
  defineOptions,
  type Gpu,
  type InferOptions,
  ModelError,
  type Optimizer,
  type OptimizerContext,
  option,
  SavedStateReader,
  savedTensor,
  type SavedTensor,
  type Slab,
  slabRuns,
  SlabState,
} from "qlora/core";
import { CodeState } from "./codes.ts";
import { type LionState, lionStep, signedMap } from "./kernel.ts";

const options = defineOptions({
  beta1: option("0 <= number < 1", { default: 0.9, help: "weight of the momentum in the direction of a step" }),
  beta2: option("0 <= number < 1", { default: 0.99, help: "decay of the momentum" }),
  weightDecay: option("number >= 0", { default: 0, help: "decoupled weight decay, times the learning rate" }),
  min8bitSize: option("number.integer >= 0", {
    default: 4096,
    help: "parameters with fewer elements keep a 32-bit momentum",
  }),
});

/**
 * bitsandbytes' `Lion8bit` (see `lionStep`): steps of one size, the learning rate, in the direction of a momentum kept in
 * about one byte per parameter. Takes a learning rate three to ten times below AdamW's. Saved state, named as
 * bitsandbytes does: `<parameter>/state1` u8 codes and `/absmax1` f32 (or f32 `/state1` alone where the parameter is
 * smaller than min8bitSize); `qmap1` [256] f32.
 * @example optimizer: lion8bit({ weightDecay: 0.01 })
 */
export const lion8bit = defineOptimizer({ name: "lion8bit", options, create: createLion });

function coded(gpu: Gpu, slab: Slab): { slab: Slab; state: CodeState; tensors: LionState } {
  const state = new CodeState(gpu, slab);
  return { slab, state, tensors: state.tensors };
}

function exact(gpu: Gpu, slab: Slab): { slab: Slab; state: SlabState; tensors: LionState } {
  const state = new SlabState(gpu, slab, "state1", "lion8bit");
  return { slab, state, tensors: { kind: "32bit", momentum: state.tensor } };
}

function createLion(config: InferOptions<typeof options>, { gpu, parameters }: OptimizerContext): Optimizer {
  const runs = parameters.slabs
    .flatMap((slab) => slabRuns(slab, (p) => p.size >= config.min8bitSize))
    .map(({ kind: eight, slab }) => (eight ? coded(gpu, slab) : exact(gpu, slab)));
  return {
    step({ learningRate, gradState }) {
      for (const { slab, tensors } of runs) lionStep(gpu, slab, tensors, gradState, config, learningRate);
    },
    async save() {
      const saved = new Map<string, SavedTensor>([["qmap1", savedTensor("f32", [256], signedMap)]]);
      for (const { state } of runs) await state.save(saved);
      return saved;
    },
    load(saved) {
      const reader = new SavedStateReader(saved, "lion8bit");
      const index = reader.takeFloats("qmap1", [256]).findIndex((entry, i) => entry !== signedMap[i]);
      if (index >= 0) {
        throw new ModelError(
          "OPTIMIZER_STATE_MISMATCH",
          `optimizer lion8bit: the saved state's tensor "qmap1" is another 8-bit map, from entry ${index} on`,
          { hint: "The checkpoint was written by another quantizer; start the optimizer anew." },
        );
      }
      const writes = runs.map(({ state }) => state.load(reader));
      reader.finish();
      for (const write of writes) write();
    },
    destroy() {
      for (const { state } of runs) state.destroy();
    },
  };
}
