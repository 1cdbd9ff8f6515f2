@group(0) @binding(0) var<storage, read> value: array<f32>;
@group(0) @binding(1) var<storage, read_write> average: array<f32>;
@group(0) @binding(2) var<storage, read> gradState: array<f32>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let i = group_index(wg, count) * 256u + lane;
  if (gradState[FOUND_INF] != 0.0 || i >= params.size) {
    return;
  }
  // The first update copies: nothing of the values before training stays in the average.
  average[i] = select(average[i] + params.rest * (value[i] - average[i]), value[i], params.update == 1u);
}
