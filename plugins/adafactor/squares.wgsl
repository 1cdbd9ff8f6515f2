// Per block of 256 elements: sums of squares of the parameter and of the update.
@group(0) @binding(0) var<storage, read_write> squares: array<vec2<f32>>;
@group(0) @binding(1) var<storage, read> value: array<f32>;
@group(0) @binding(2) var<storage, read> grad: array<u32>;
@group(0) @binding(3) var<storage, read> owner_of: array<u32>;
@group(0) @binding(4) var<storage, read> owners: array<Owner>;
@group(0) @binding(5) var<storage, read> factors: array<f32>;
@group(0) @binding(6) var<storage, read> scales: array<vec2<f32>>;
@group(0) @binding(7) var<storage, read> gradState: array<f32>;

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let block = group_index(wg, count);
  if (block >= params.blocks) {
    return;
  }
  let index = owner_of[params.factors + block];
  let end = min(owners[index].start + owners[index].size, (block + 1u) * 256u);
  var sum = vec2<f32>();
  for (var i = block * 256u + lane; i < end; i += LANES) {
    let x = vec2<f32>(value[i], update(i, index));
    sum += x * x;
  }
  let of_values = workgroup_sum(sum.x, lane);
  let of_updates = workgroup_sum(sum.y, lane);
  if (lane == 0u) {
    squares[block] = vec2<f32>(of_values, of_updates);
  }
}
