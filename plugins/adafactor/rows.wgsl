// Means of squared gradients along rows; a workgroup per row.
@group(0) @binding(0) var<storage, read_write> factors: array<f32>;
@group(0) @binding(1) var<storage, read> grad: array<u32>;
@group(0) @binding(2) var<storage, read> owner_of: array<u32>;
@group(0) @binding(3) var<storage, read> owners: array<Owner>;
@group(0) @binding(4) var<storage, read> gradState: array<f32>;

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let row = group_index(wg, count);
  if (gradState[FOUND_INF] != 0.0 || row >= params.rows) {
    return;
  }
  let owner = owners[owner_of[row]];
  let first = owner.start + (row - owner.firstRow) * owner.columns;
  var sum = 0.0;
  for (var c = lane; c < owner.columns; c += LANES) {
    let g = gradient(first + c);
    sum += g * g;
  }
  let total = workgroup_sum(sum, lane);
  if (lane == 0u) {
    factors[row] += params.share * (total / f32(owner.columns) - factors[row]);
  }
}
