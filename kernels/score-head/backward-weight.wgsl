// One invocation per element of the weight adds the samples in order: the same bits every time.
@group(0) @binding(0) var<storage, read> dY: array<f32>;
@group(0) @binding(1) var<storage, read> x: array<FV>;
@group(0) @binding(2) var<storage, read_write> dWeight: array<FV>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let i = group_index(wg, count) * 256u + lane;
  let l = i / params.columns;
  let c = i % params.columns;
  if (l >= params.labels) {
    return;
  }
  var total = FV(0.0);
  for (var b = 0u; b < params.rows; b++) {
    total += dY[b * params.labels + l] * x[b * params.columns + c];
  }
  dWeight[i] += total;
}
