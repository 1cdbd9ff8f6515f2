@group(0) @binding(0) var<storage, read> dY: array<f32>;
@group(0) @binding(1) var<storage, read> weight: array<FV>;
@group(0) @binding(2) var<storage, read_write> dX: array<FV>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let i = group_index(wg, count) * 256u + lane;
  let b = i / params.columns;
  let c = i % params.columns;
  if (b >= params.rows) {
    return;
  }
  var total = FV(0.0);
  for (var l = 0u; l < params.labels; l++) {
    total += dY[b * params.labels + l] * weight[l * params.columns + c];
  }
  dX[i] = total;
}
