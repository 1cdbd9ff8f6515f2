@group(0) @binding(0) var<storage, read_write> into: array<X>;
@group(0) @binding(1) var<storage, read> source: array<X>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let i = group_index(wg, count) * 256u + lane;
  if (i < params.size) {
    into[i] = X(f32(into[i]) + f32(source[i]));
  }
}
