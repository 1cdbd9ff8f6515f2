@group(0) @binding(0) var<storage, read> input: array<f32>;
@group(0) @binding(1) var<storage, read_write> output: array<f32>;
@group(0) @binding(2) var<storage, read> segments: array<vec2<u32>>;
@group(0) @binding(3) var<storage, read> last_tokens: array<u32>;

// One invocation walks down a column of a sample: the sum is always formed in the same order.
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let i = group_index(wg, count) * 64u + lane;
  if (i >= params.samples * params.columns) {
    return;
  }
  let column = i % params.columns;
  let rows = segments[last_tokens[i / params.columns]];
  let share = 1.0 / f32(rows.y - rows.x);
  if (BACKWARD == 1u) {
    for (var row = rows.x; row < rows.y; row++) {
      output[row * params.columns + column] = input[i] * share;
    }
    return;
  }
  var sum = 0.0;
  for (var row = rows.x; row < rows.y; row++) {
    sum += input[row * params.columns + column];
  }
  output[i] = sum * share;
}
