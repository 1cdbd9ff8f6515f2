@group(0) @binding(0) var<storage, read_write> value: array<f32>;
@group(0) @binding(1) var<storage, read> grad: array<u32>;
@group(0) @binding(2) var<storage, read_write> mean: array<f32>;
@group(0) @binding(3) var<storage, read> gradState: array<f32>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let i = group_index(wg, count) * 256u + lane;
  // gradState: what unscales and clips the gradient; 1 where the step must be skipped; the gradient's norm.
  if (gradState[FOUND_INF] != 0.0 || i >= params.size) {
    return;
  }
  // Tested as bits: compilers may assume that floats are finite.
  if ((grad[i] & 0x7f800000u) == 0x7f800000u) {
    mean[i] = 0.0;
    return;
  }
  let g = bitcast<f32>(grad[i]) * gradState[CLIP_COEF];
  let m = params.momentum * mean[i] + (1.0 - params.momentum) * g;
  mean[i] = m;
  value[i] -= params.learningRate * (sign(m) + params.weightDecay * value[i]);
}
