@group(0) @binding(0) var<storage, read> parts: array<f32>;
@group(0) @binding(1) var<storage, read_write> c: array<C>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let i = group_index(wg, count) * 256u + lane;
  if (i < params.size) {
    var sum = 0.0;
    for (var split = 0u; split < params.splits; split++) {
      sum += parts[split * params.size + i];
    }
    if (params.accumulate != 0u) {
      sum += f32(c[i]);
    }
    c[i] = C(sum);
  }
}
