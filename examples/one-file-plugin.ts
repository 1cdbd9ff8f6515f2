/**
 * An optimizer in one file, with a kernel of its own: signSGD (Bernstein et al. 2018), p -= lr (sign(g) + weightDecay p).
 *
 *   qlora train --optimizer ./examples/one-file-plugin.ts --optimizer.weight-decay 0.01 --learning-rate 1e-3 ...
 */
import { defineOptimizer, defineOptions, gridFor, option } from "qlora/core";

// The prelude declares `params` (the uniforms) and group_index; gradState is [unscale and clip, skip, norm, unused].
const code = /* wgsl */ `
@group(0) @binding(0) var<storage, read_write> value: array<f32>;
@group(0) @binding(1) var<storage, read> grad: array<f32>;
@group(0) @binding(2) var<storage, read> gradState: array<f32>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let i = group_index(wg, count) * 256u + lane;
  if (gradState[FOUND_INF] != 0.0 || i >= params.size) {
    return;
  }
  value[i] -= params.learningRate * (sign(grad[i]) + params.weightDecay * value[i]);
}`;

export const signSgd = defineOptimizer({
  name: "sign-sgd",
  options: defineOptions({
    weightDecay: option("number >= 0", { default: 0, help: "decay of the parameters, times the learning rate" }),
  }),
  create: ({ weightDecay }, { gpu, parameters }) => ({
    step({ learningRate, gradState }) {
      const kernel = gpu.kernel("sign-sgd", () => ({
        code,
        bindings: ["write", "read", "read"],
        uniforms: { size: "u32", learningRate: "f32", weightDecay: "f32" },
      }));
      for (const { size, value, grad } of parameters.slabs)
        gpu.dispatch(kernel, [value, grad, gradState], { size, learningRate, weightDecay }, gridFor(size / 256));
    },
    save: async () => new Map(), // no state: nothing to save
    load: () => {},
    destroy: () => {},
  }),
});
