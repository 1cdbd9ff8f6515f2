@group(0) @binding(0) var<storage, read_write> value: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> grad: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read_write> state: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> gradState: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let block = group_index(wg, count);
  if (gradState[FOUND_INF] != 0.0 || block >= params.blocks) {
    return;
  }
  let i = block * 64u + lane;
  let moved = lion(value[i], state[i], grad[i], gradState[CLIP_COEF]);
  value[i] = moved.value;
  state[i] = moved.momentum;
}
