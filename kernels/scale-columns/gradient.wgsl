@group(0) @binding(0) var<storage, read> sums: array<f32>;
@group(0) @binding(1) var<storage, read_write> grad: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let column = group_index(wg, count) * 64u + lane;
  if (column >= params.columns) {
    return;
  }
  var total = 0.0;
  for (var chunk = 0u; chunk < params.chunks; chunk++) {
    total += sums[chunk * params.columns + column];
  }
  grad[column] += total / divisor(column);
}
