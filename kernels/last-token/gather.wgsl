@group(0) @binding(0) var<storage, read> x: array<XV>;
@group(0) @binding(1) var<storage, read> lastTokens: array<u32>;
@group(0) @binding(2) var<storage, read_write> y: array<XV>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let i = group_index(wg, count) * 256u + lane;
  if (i < params.size) {
    let row = min(lastTokens[i / params.columns], params.rows - 1u);
    y[i] = x[row * params.columns + i % params.columns];
  }
}
