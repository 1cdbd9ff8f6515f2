import {
  defineOptimizer,
  defineOptions,
  type Gpu,
  type InferOptions,
  type Optimizer,
  type OptimizerContext,
  type OptimizerStep,
  option,
  SavedStateReader,
  savedTensor,
  type SavedTensor,
  type Slab,
  slabRuns,
  SlabState,
  type Tensor,
} from "qlora/core";
import { adamWScalars, adamWStep } from "qlora/kernels";
import { chunksOf } from "./chunks.ts";
import { muonStep } from "./step.ts";

const options = defineOptions({
  momentum: option("0 <= number < 1", { default: 0.95, help: "decay of the momentum" }),
  nesterov: option("boolean", { default: true, help: "look ahead by one step of momentum" }),
  weightDecay: option("number >= 0", {
    default: 0.1,
    help: "decoupled weight decay of matrices, times the learning rate",
  }),
  nsSteps: option("1 <= number.integer < 100", { default: 5, help: "Newton-Schulz iterations of each update" }),
  eps: option("number > 0", { default: 1e-7, help: "least norm that a gradient is divided by" }),
  adjustLrFn: option("'original' | 'match_rms_adamw'", {
    default: "original",
    help: "learning rate by shape: sqrt(max(1, R/C)), or 0.2 sqrt(max(R, C)), which suits rates tuned for AdamW",
  }),
  adamBeta1: option("0 <= number < 1", { default: 0.9, help: "of AdamW, which updates what is no matrix" }),
  adamBeta2: option("0 <= number < 1", { default: 0.999, help: "of AdamW, which updates what is no matrix" }),
  adamEpsilon: option("number > 0", { default: 1e-8, help: "of AdamW, which updates what is no matrix" }),
});

type Config = InferOptions<typeof options>;

/** One way of updating a run of parameters. */
interface Part {
  readonly states: readonly SlabState[];
  step(step: OptimizerStep): void;
  destroy(): void;
}

/**
 * Muon: the momentum of each matrix, made nearly orthogonal, is its update. Matrices follow `torch.optim.Muon` (see
 * `muonStep`). torch refuses parameters that are no matrix; here they are updated by AdamW without weight decay at the
 * same learning rate, as Muon's authors do. Saved state: `<parameter>/momentum_buffer` f32 of a matrix; `/state1` and
 * `/state2` f32 of another, and then `step` [1] u32.
 * @example optimizer: muon({ adjustLrFn: "match_rms_adamw" })
 */
export const muon = defineOptimizer({ name: "muon", options, create: createMuon });

function matrices(gpu: Gpu, slab: Slab, config: Config): Part {
  const { chunks, starts: places } = chunksOf(slab);
  const momentum = new SlabState(gpu, slab, "momentum_buffer", "muon");
  const starts = gpu.upload(places, [places.length], "u32", `muon starts of slab ${slab.index}`, "optimizer");
  const state = { chunks, starts, momentum: momentum.tensor };
  return {
    states: [momentum],
    step: ({ learningRate, gradState }) => muonStep(gpu, slab, state, gradState, config, learningRate),
    destroy: () => gpu.free(starts),
  };
}

function others(gpu: Gpu, slab: Slab, config: Config, applied: Tensor): Part {
  const [state1, state2] = [new SlabState(gpu, slab, "state1", "muon"), new SlabState(gpu, slab, "state2", "muon")];
  const tensors = { state1: state1.tensor, state2: state2.tensor, applied };
  return {
    states: [state1, state2],
    step({ learningRate, update, gradState }) {
      adamWStep(gpu, slab, tensors, gradState, adamWScalars({ ...config, weightDecay: 0 }, learningRate, update));
    },
    destroy() {},
  };
}

function createMuon(config: Config, { gpu, parameters }: OptimizerContext): Optimizer {
  const applied = gpu.alloc([1], "u32", "muon step", "optimizer");
  gpu.clear(applied);
  const parts = parameters.slabs
    .flatMap((slab) => slabRuns(slab, (p) => p.shape.length === 2))
    .map(({ kind, slab }) => (kind ? matrices(gpu, slab, config) : others(gpu, slab, config, applied)));
  const states = parts.flatMap((part) => part.states);
  const allMatrices = parameters.parameters.every((p) => p.shape.length === 2);
  return {
    step(step) {
      for (const part of parts) part.step(step);
    },
    async save() {
      const saved = new Map<string, SavedTensor>();
      if (!allMatrices) saved.set("step", savedTensor("u32", [1], await gpu.readBytes(applied)));
      for (const state of states) await state.save(saved);
      return saved;
    },
    load(saved) {
      const reader = new SavedStateReader(saved, "muon");
      const step = allMatrices ? new Uint8Array(4) : reader.take("step", "u32", [1]);
      const writes = states.map((state) => state.load(reader));
      reader.finish();
      gpu.write(applied, step);
      for (const write of writes) write();
    },
    destroy() {
      for (const state of states) state.destroy();
      for (const part of parts) part.destroy();
      gpu.free(applied);
    },
  };
}
