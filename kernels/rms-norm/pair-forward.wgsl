// One workgroup per row: sum = residual + norm(x), y = norm(sum). Each invocation reads back what it wrote itself.
@group(0) @binding(0) var<storage, read> x: array<XV>;
@group(0) @binding(1) var<storage, read> residual: array<FV>;
@group(0) @binding(2) var<storage, read> weights: array<FV>;
@group(0) @binding(3) var<storage, read> nextWeights: array<FV>;
@group(0) @binding(4) var<storage, read_write> inverseRms: array<vec2<f32>>;
@group(0) @binding(5) var<storage, read_write> sums: array<FV>;
@group(0) @binding(6) var<storage, read_write> y: array<YV>;

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let row = group_index(wg, count);
  // A workgroup past the end has no columns: a return ahead of barriers compiles three times slower in software drivers.
  let columns = select(0u, params.columns, row < params.rows);
  var squares = FV(0.0);
  for (var c = lane; c < columns; c += LANES) {
    let v = FV(x[row * columns + c]);
    squares += v * v;
  }
  let mean = workgroup_sum(sum(squares), lane) / f32(params.columns * WIDTH);
  let scale = inverseSqrt(mean + params.eps);
  var next_squares = FV(0.0);
  for (var c = lane; c < columns; c += LANES) {
    let i = row * columns + c;
    let v = residual[i] + FV(x[i]) * scale * (weights[c] + params.offset);
    sums[i] = v;
    next_squares += v * v;
  }
  let next_mean = workgroup_sum(sum(next_squares), lane) / f32(params.columns * WIDTH);
  let next_scale = inverseSqrt(next_mean + params.eps);
  if (lane == 0u && columns > 0u) {
    inverseRms[row] = vec2<f32>(scale, next_scale);
  }
  for (var c = lane; c < columns; c += LANES) {
    let i = row * columns + c;
    y[i] = YV(sums[i] * next_scale * (nextWeights[c] + params.offset));
  }
}
