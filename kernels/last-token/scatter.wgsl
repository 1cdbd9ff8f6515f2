// Every sample has its own last row, so no two invocations add to the same place.
@group(0) @binding(0) var<storage, read> dY: array<XV>;
@group(0) @binding(1) var<storage, read> lastTokens: array<u32>;
@group(0) @binding(2) var<storage, read_write> dX: array<XV>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let i = group_index(wg, count) * 256u + lane;
  if (i < params.size) {
    let row = min(lastTokens[i / params.columns], params.rows - 1u);
    dX[row * params.columns + i % params.columns] += dY[i];
  }
}
