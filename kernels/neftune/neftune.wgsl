// One invocation per four columns of a row.
@group(0) @binding(0) var<storage, read> rowKeys: array<u32>;
@group(0) @binding(1) var<storage, read> segments: array<u32>;
@group(0) @binding(2) var<storage, read_write> h: array<f32>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let id = group_index(wg, count) * 256u + lane;
  let fours = (params.columns + 3u) / 4u;
  let row = id / fours;
  if (row >= params.rows) {
    return;
  }
  let column4 = id % fours;
  let tokens = segments[2u * row + 1u] - segments[2u * row];
  let magnitude = params.alpha / sqrt(f32(tokens) * f32(params.columns));
  let draws = random4(rowKeys[row], SITE, column4, params.seed);
  let noise = (vec4<f32>(draws) * 4.656612873077393e-10f - 1.0f) * magnitude;
  for (var k = 0u; k < min(4u, params.columns - 4u * column4); k++) {
    h[row * params.columns + 4u * column4 + k] += noise[k];
  }
}
