// One workgroup per row: dX = s * (g - x * s^2 * mean(g * x)), with s the saved 1/rms and g = dY * (offset + weight).
@group(0) @binding(0) var<storage, read> x: array<XV>;
@group(0) @binding(1) var<storage, read> weight: array<FV>;
@group(0) @binding(2) var<storage, read> inverseRms: array<f32>;
@group(0) @binding(3) var<storage, read> dY: array<YV>;
@group(0) @binding(4) var<storage, read_write> dX: array<XV>;

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let row = group_index(wg, count);
  // A workgroup past the end has no columns: a return ahead of barriers compiles three times slower in software drivers.
  let columns = select(0u, params.columns, row < params.rows);
  var products = FV(0.0);
  for (var c = lane; c < columns; c += LANES) {
    let i = row * columns + c;
    products += FV(dY[i]) * (weight[c] + params.offset) * FV(x[i]);
  }
  let mean = workgroup_sum(sum(products), lane) / f32(params.columns * WIDTH);
  let scale = inverseRms[row];
  for (var c = lane; c < columns; c += LANES) {
    let i = row * columns + c;
    let g = FV(dY[i]) * (weight[c] + params.offset);
    dX[i] = XV(before(i) + scale * (g - FV(x[i]) * (scale * scale * mean)));
  }
}
