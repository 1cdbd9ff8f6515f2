// One workgroup per output.
@group(0) @binding(0) var<storage, read> x: array<FV>;
@group(0) @binding(1) var<storage, read> weight: array<FV>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let i = group_index(wg, count);
  let inside = i < params.rows * params.labels;
  let columns = select(0u, params.columns, inside); // no early return: see rms-norm
  let b = i / params.labels;
  let l = i % params.labels;
  var products = FV(0.0);
  for (var c = lane; c < columns; c += LANES) {
    products += x[b * columns + c] * weight[l * columns + c];
  }
  let total = workgroup_sum(sum(products), lane);
  if (lane == 0u && inside) {
    y[i] = total;
  }
}
