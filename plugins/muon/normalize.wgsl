// Divides each matrix by its Frobenius norm, so that no singular value exceeds 1; a workgroup per matrix.
@group(0) @binding(0) var<storage, read_write> x: array<f32>;

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let matrix = group_index(wg, count);
  if (matrix >= params.matrices) {
    return;
  }
  let first = matrix * params.area;
  var sum = 0.0;
  for (var i = lane; i < params.area; i += LANES) {
    sum += x[first + i] * x[first + i];
  }
  let norm = max(bf16(sqrt(workgroup_sum(sum, lane))), bf16(params.eps));
  for (var i = lane; i < params.area; i += LANES) {
    x[first + i] = bf16(x[first + i] / norm);
  }
}
