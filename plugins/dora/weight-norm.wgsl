// ROWS rows of W + scale * B A to a workgroup; a lane holds eight columns of each at a time.
@group(0) @binding(3) var<storage, read> a: array<vec4f>;
@group(0) @binding(4) var<storage, read> b: array<f32>;
@group(0) @binding(5) var<storage, read_write> norms: array<f32>;

const ROWS = 4u;

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let first = group_index(wg, count) * ROWS;
  var squares: array<f32, ROWS>;
  for (var word = lane; word < params.words; word += LANES) {
    var low: array<vec4f, ROWS>;
    var high: array<vec4f, ROWS>;
    for (var r = 0u; r < ROWS; r++) {
      let at = min(first + r, params.rows - 1u) * params.words + word;
      low[r] = weight_four(2u * at);
      high[r] = weight_four(2u * at + 1u);
    }
    for (var k = 0u; k < params.rank; k++) {
      let left = a[(k * params.words + word) * 2u];
      let right = a[(k * params.words + word) * 2u + 1u];
      for (var r = 0u; r < ROWS; r++) {
        let factor = params.scale * b[min(first + r, params.rows - 1u) * params.rank + k];
        low[r] += factor * left;
        high[r] += factor * right;
      }
    }
    for (var r = 0u; r < ROWS; r++) {
      squares[r] += dot(low[r], low[r]) + dot(high[r], high[r]);
    }
  }
  let totals = vec4f(
    workgroup_sum(squares[0], lane),
    workgroup_sum(squares[1], lane),
    workgroup_sum(squares[2], lane),
    workgroup_sum(squares[3], lane),
  );
  if (lane < ROWS && first + lane < params.rows) {
    norms[first + lane] = sqrt(totals[lane]);
  }
}
