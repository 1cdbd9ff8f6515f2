// scales[parameter].x: mean of the row factors, which the estimate divides by; a workgroup per parameter.
@group(0) @binding(0) var<storage, read_write> scales: array<vec2<f32>>;
@group(0) @binding(1) var<storage, read> factors: array<f32>;
@group(0) @binding(2) var<storage, read> owners: array<Owner>;

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let index = group_index(wg, count);
  if (index >= params.owners) {
    return;
  }
  let owner = owners[index];
  var sum = 0.0;
  if (owner.isMatrix != 0u) {
    for (var r = lane; r < owner.rows; r += LANES) {
      sum += factors[owner.firstRow + r];
    }
  }
  let total = workgroup_sum(sum, lane);
  if (lane == 0u) {
    scales[index].x = max(total / f32(owner.rows), params.eps1);
  }
}
