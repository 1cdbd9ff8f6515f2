@group(0) @binding(0) var<storage, read_write> y: array<f32>;
@group(0) @binding(1) var<storage, read> grad: array<u32>;
@group(0) @binding(2) var<storage, read_write> z: array<f32>;
@group(0) @binding(3) var<storage, read_write> x: array<f32>;
@group(0) @binding(4) var<storage, read_write> v: array<f32>;
@group(0) @binding(5) var<storage, read> gradState: array<f32>;
@group(0) @binding(6) var<storage, read_write> applied: array<u32>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let i = group_index(wg, count) * 256u + lane;
  if (gradState[FOUND_INF] != 0.0 || i >= params.size) {
    return;
  }
  if (i == 0u) {
    applied[0] = params.update;
  }
  // Tested as bits: compilers may assume that floats are finite.
  if ((grad[i] & 0x7f800000u) == 0x7f800000u) {
    return;
  }
  let g = bitcast<f32>(grad[i]) * gradState[CLIP_COEF];
  v[i] = params.beta2 * v[i] + params.rest2 * g * g;
  let before = y[i];
  let direction = g / (sqrt(v[i] / params.correction2) + params.epsilon) + params.decay * before;
  y[i] = before + params.average * (z[i] - before) + params.ahead * direction;
  z[i] -= params.rate * direction;
  x[i] += params.average * (z[i] - x[i]);
}
