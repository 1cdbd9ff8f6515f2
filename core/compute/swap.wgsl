@group(0) @binding(0) var<storage, read_write> a: array<u32>;
@group(0) @binding(1) var<storage, read_write> b: array<u32>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let i = group_index(wg, count) * 256u + lane;
  if (i < params.size) {
    let kept = a[i];
    a[i] = b[i];
    b[i] = kept;
  }
}
