// One workgroup per row: what y's gradient adds to that of the sum, and the norm's gradient of the whole.
@group(0) @binding(0) var<storage, read> x: array<XV>;
@group(0) @binding(1) var<storage, read> sums: array<FV>;
@group(0) @binding(2) var<storage, read> weights: array<FV>;
@group(0) @binding(3) var<storage, read> nextWeights: array<FV>;
@group(0) @binding(4) var<storage, read> inverseRms: array<vec2<f32>>;
@group(0) @binding(5) var<storage, read> dY: array<YV>;
@group(0) @binding(6) var<storage, read_write> dSums: array<FV>;
@group(0) @binding(7) var<storage, read_write> dX: array<XV>;

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let row = group_index(wg, count);
  // A workgroup past the end has no columns: a return ahead of barriers compiles three times slower in software drivers.
  let columns = select(0u, params.columns, row < params.rows);
  let scales = inverseRms[min(row, params.rows - 1u)];
  var next_products = FV(0.0);
  for (var c = lane; c < columns; c += LANES) {
    let i = row * columns + c;
    next_products += FV(dY[i]) * (nextWeights[c] + params.offset) * sums[i];
  }
  let next_mean = workgroup_sum(sum(next_products), lane) / f32(params.columns * WIDTH);
  let next_scale = scales.y;
  var products = FV(0.0);
  for (var c = lane; c < columns; c += LANES) {
    let i = row * columns + c;
    let g = FV(dY[i]) * (nextWeights[c] + params.offset);
    let d = dSums[i] + next_scale * (g - sums[i] * (next_scale * next_scale * next_mean));
    dSums[i] = d;
    products += d * (weights[c] + params.offset) * FV(x[i]);
  }
  let mean = workgroup_sum(sum(products), lane) / f32(params.columns * WIDTH);
  let scale = scales.x;
  for (var c = lane; c < columns; c += LANES) {
    let i = row * columns + c;
    let g = dSums[i] * (weights[c] + params.offset);
    dX[i] = XV(scale * (g - FV(x[i]) * (scale * scale * mean)));
  }
}
