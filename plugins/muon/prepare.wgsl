// Moves the momentum of a chunk of matrices of one shape, and lays out the next update [matrices, short, long] in bf16.
@group(0) @binding(0) var<storage, read_write> momentum: array<f32>;
@group(0) @binding(1) var<storage, read_write> x: array<f32>;
@group(0) @binding(2) var<storage, read> grad: array<u32>;
@group(0) @binding(3) var<storage, read> starts: array<u32>;
@group(0) @binding(4) var<storage, read> gradState: array<f32>;

/// As torch forms it: from the nearer end.
fn lerp(a: f32, b: f32, weight: f32) -> f32 {
  return select(b - (b - a) * (1.0 - weight), a + weight * (b - a), weight < 0.5);
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let e = group_index(wg, count) * 256u + lane;
  let area = params.rows * params.columns;
  if (gradState[FOUND_INF] != 0.0 || e >= params.matrices * area) {
    return;
  }
  let matrix = e / area;
  let within = e % area;
  let i = starts[params.first + matrix] + within;
  // A gradient that is not finite counts as 0; tested as bits, since compilers may assume that floats are finite.
  let bits = grad[i];
  let g = select(0.0, bitcast<f32>(bits) * gradState[CLIP_COEF], (bits & 0x7f800000u) != 0x7f800000u);
  let moved = lerp(momentum[i], g, params.share);
  momentum[i] = moved;
  let step = select(moved, lerp(g, moved, 1.0 - params.share), params.nesterov != 0u);
  let turned = (within % params.columns) * params.rows + within / params.columns;
  x[matrix * area + select(within, turned, params.rows > params.columns)] = bf16(step);
}
