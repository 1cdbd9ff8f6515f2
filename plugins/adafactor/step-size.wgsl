// scales[parameter].y: the step size relative to the parameter, with the update clipped; a workgroup per parameter.
@group(0) @binding(0) var<storage, read_write> scales: array<vec2<f32>>;
@group(0) @binding(1) var<storage, read> squares: array<vec2<f32>>;
@group(0) @binding(2) var<storage, read> owners: array<Owner>;

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let index = group_index(wg, count);
  if (index >= params.owners) {
    return;
  }
  let owner = owners[index];
  var sum = vec2<f32>();
  for (var block = lane; block < (owner.size + 255u) / 256u; block += LANES) {
    sum += squares[owner.firstBlock + block];
  }
  let of_values = workgroup_sum(sum.x, lane);
  let of_updates = workgroup_sum(sum.y, lane);
  if (lane == 0u) {
    let alpha = max(params.eps2, sqrt(of_values / f32(owner.size))) * params.rho;
    scales[index].y = alpha / max(1.0, sqrt(of_updates / f32(owner.size)) / params.clipThreshold);
  }
}
