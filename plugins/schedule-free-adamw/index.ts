import {
  defineOptimizer,
  defineOptions,
  gridFor,
  type InferOptions,
  type Optimizer,
  type OptimizerContext,
  option,
  savedTensor,
  slabStates,
  swapTensors,
} from "qlora/core";
import { adamWOptionShape } from "qlora/kernels";
import { Averaging } from "./averaging.ts";
import code from "./step.wgsl" with { type: "text" };

const options = defineOptions({
  ...adamWOptionShape,
  r: option("number", { default: 0, help: "an update weighs its number to this power in the average" }),
  weightLrPower: option("number", {
    default: 2,
    help: "and the highest learning rate so far to this power: updates of a warmup weigh less",
  }),
});

/**
 * Schedule-free AdamW: gradients are taken at y, between the fast iterate z and the average x of all z; evaluation and the
 * adapter's files take x. It needs no schedule but a warmup: `lrSchedulerType: "constant_with_warmup"`.
 * Defazio et al. 2024 (arXiv 2405.15682); facebookresearch/schedule_free, adamw_schedulefree.py. Saved state: `<parameter>/z`,
 * `/x` and `/exp_avg_sq` f32, `step` [1] u32, and `averaging` [16] u8 (the sum of weights and the highest rate, f64).
 * @example optimizer: scheduleFreeAdamW({ adamBeta1: 0.9 })
 */
export const scheduleFreeAdamW = defineOptimizer({ name: "schedule-free-adamw", options, create: createOptimizer });

function createOptimizer(o: InferOptions<typeof options>, context: OptimizerContext): Optimizer {
  const { gpu } = context;
  const { adamBeta1: beta1, adamBeta2: beta2, adamEpsilon: epsilon, weightDecay } = o;
  const { states, ...kept } = slabStates(context, "schedule-free-adamw", ["z", "x", "exp_avg_sq"]);
  for (const { slab, tensors } of states) for (const to of [tensors.z, tensors.x]) gpu.copy(slab.value, to);
  const applied = gpu.alloc([1], "u32", "schedule-free-adamw step", "optimizer");
  gpu.clear(applied);
  const averaging = new Averaging(o);
  return {
    step({ learningRate, update, gradState }) {
      const average = averaging.step(update, learningRate);
      const kernel = gpu.kernel("schedule-free-adamw", () => ({
        code,
        bindings: ["write", "read", "write", "write", "write", "read", "write"],
        uniforms: {
          size: "u32",
          update: "u32",
          beta2: "f32",
          rest2: "f32",
          correction2: "f32",
          epsilon: "f32",
          decay: "f32",
          rate: "f32",
          average: "f32",
          ahead: "f32",
        },
      }));
      const uniforms = {
        update,
        beta2,
        rest2: 1 - beta2,
        correction2: 1 - beta2 ** update,
        epsilon,
        decay: weightDecay,
        rate: learningRate,
        average,
        ahead: learningRate * (beta1 * (1 - average) - 1),
      };
      for (const { slab, tensors } of states) {
        const bound = [slab.value, slab.grad, tensors.z, tensors.x, tensors.exp_avg_sq, gradState, applied];
        gpu.dispatch(kernel, bound, { size: slab.size, ...uniforms }, gridFor(slab.size / 256));
      }
    },
    evaluating() {
      for (const { slab, tensors } of states) swapTensors(gpu, slab.value, tensors.x);
    },
    async save() {
      const step = await gpu.readBytes(applied);
      const sums = averaging.after(new Uint32Array(step.buffer)[0]!);
      return new Map([
        ["step", savedTensor("u32", [1], step)],
        ["averaging", savedTensor("u8", [16], Float64Array.of(sums.weightSum, sums.highest))],
        ...(await kept.save()),
      ]);
    },
    load: (state) =>
      kept.load(state, (reader) => {
        const step = reader.take("step", "u32", [1]);
        const [weightSum, highest] = new Float64Array(reader.take("averaging", "u8", [16]).slice().buffer);
        return () => {
          gpu.write(applied, step);
          const update = new Uint32Array(step.slice().buffer)[0]!;
          averaging.restore({ update, weightSum: weightSum!, highest: highest! });
        };
      }),
    destroy() {
      kept.destroy();
      gpu.free(applied);
    },
  };
}
