@group(0) @binding(0) var<storage, read_write> value: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> grad: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read_write> state1: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> state2: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> gradState: array<f32>;
@group(0) @binding(5) var<storage, read_write> applied: array<u32>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let i = group_index(wg, count) * 256u + lane;
  if (gradState[FOUND_INF] != 0.0 || i >= params.vectors) {
    return;
  }
  if (i == 0u) {
    applied[0] = params.update;
  }
  let bits = grad[i];
  let finite = (bits & vec4<u32>(0x7f800000u)) != vec4<u32>(0x7f800000u);
  let g = bitcast<vec4<f32>>(select(vec4<u32>(), bits, finite)) * gradState[CLIP_COEF];
  let m = select(vec4<f32>(), params.beta1 * state1[i] + params.rest1 * g, finite);
  let v = select(vec4<f32>(), params.beta2 * state2[i] + params.rest2 * g * g, finite);
  state1[i] = m;
  state2[i] = v;
  let before = value[i];
  let after = (before + params.stepSize * m / (sqrt(v) + params.epsilon)) * params.decay;
  value[i] = select(before, after, finite);
}
