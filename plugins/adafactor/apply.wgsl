@group(0) @binding(0) var<storage, read_write> value: array<f32>;
@group(0) @binding(1) var<storage, read> grad: array<u32>;
@group(0) @binding(2) var<storage, read> owner_of: array<u32>;
@group(0) @binding(3) var<storage, read> owners: array<Owner>;
@group(0) @binding(4) var<storage, read> factors: array<f32>;
@group(0) @binding(5) var<storage, read> scales: array<vec2<f32>>;
@group(0) @binding(6) var<storage, read> gradState: array<f32>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let block = group_index(wg, count);
  if (gradState[FOUND_INF] != 0.0 || block >= params.blocks) {
    return;
  }
  let i = block * 256u + lane;
  let index = owner_of[params.factors + block];
  if (i < owners[index].start + owners[index].size) {
    value[i] = value[i] * params.decay - scales[index].y * update(i, index);
  }
}
