import {
  createDynamicMap,
  defineOptimizer,
  defineOptions,
  type InferOptions,
  ModelError,
  type Optimizer,
  type OptimizerContext,
  option,
  SavedStateReader,
  savedTensor,
  type SavedTensor,
} from "qlora/core";
import { adamW8bitStep, adamWScalars, adamWOptionShape } from "qlora/kernels";
import { SlabState } from "./slab-state.ts";

const options = defineOptions({
  ...adamWOptionShape,
  min8bitSize: option("number.integer >= 0", {
    default: 4096,
    help: "parameters with fewer elements keep 32-bit state",
  }),
  blockSize: option("256", { default: 256, help: "elements that share an absmax; bitsandbytes since 0.44 has 256" }),
});

/**
 * bitsandbytes' blockwise 8-bit AdamW (see `adamW8bitStep`): about 2 bytes of state per parameter. Saved state, names as
 * bitsandbytes has them: `<parameter>/state1`, `/state2` u8 codes and `/absmax1`, `/absmax2` f32 (or f32 `/state1`,
 * `/state2` alone where the parameter is smaller than min8bitSize); `qmap1`, `qmap2` [256] f32; `step` [1] u32.
 * @example optimizer: adamW8bit()
 */
export const adamW8bit = defineOptimizer({ name: "adamw8bit", options, create: createAdamW8bit });

function createAdamW8bit(config: InferOptions<typeof options>, { gpu, parameters }: OptimizerContext): Optimizer {
  const applied = gpu.alloc([1], "u32", "adamw8bit step", "optimizer");
  gpu.clear(applied);
  const states = parameters.slabs.map((slab) => new SlabState(gpu, slab, config.min8bitSize, applied));

  return {
    step({ learningRate, update, gradState }) {
      const scalars = adamWScalars(config, learningRate, update);
      for (const { slab, tensors } of states) adamW8bitStep(gpu, slab, tensors, gradState, scalars);
    },
    async save() {
      const saved = new Map<string, SavedTensor>([
        ["step", savedTensor("u32", [1], await gpu.readBytes(applied))],
        ["qmap1", savedTensor("f32", [256], createDynamicMap(true))],
        ["qmap2", savedTensor("f32", [256], createDynamicMap(false))],
      ]);
      for (const state of states) await state.save(saved);
      return saved;
    },
    load(state) {
      const reader = new SavedStateReader(state, "adamw8bit");
      const step = reader.take("step", "u32", [1]);
      checkMap(reader, "qmap1", true);
      checkMap(reader, "qmap2", false);
      const writes = states.map((slab) => slab.load(reader));
      reader.finish();
      gpu.write(applied, step);
      for (const write of writes) write();
    },
    destroy() {
      for (const state of states) state.destroy();
      gpu.free(applied);
    },
  };
}

/** Codes mean nothing under another map. */
function checkMap(reader: SavedStateReader, name: string, signed: boolean): void {
  const map = createDynamicMap(signed);
  const index = reader.takeFloats(name, [256]).findIndex((value, i) => value !== map[i]);
  if (index >= 0) {
    throw new ModelError(
      "OPTIMIZER_STATE_MISMATCH",
      `optimizer adamw8bit: the saved state's tensor "${name}" is another 8-bit map, from entry ${index} on`,
      { hint: "The checkpoint was written by another quantizer; start the optimizer anew." },
    );
  }
}
