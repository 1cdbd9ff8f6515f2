// One invocation to a row and head: the row's score for its sample's last row; very low where that does not see it.
@group(0) @binding(0) var<storage, read> q: array<X4>;
@group(0) @binding(1) var<storage, read> k: array<X4>;
@group(0) @binding(2) var<storage, read> segments: array<vec2<u32>>;
@group(0) @binding(3) var<storage, read> last_tokens: array<u32>;
@group(0) @binding(4) var<storage, read_write> scores: array<f32>;

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let i = group_index(wg, count) * THREADS + lane;
  let row = i / params.heads;
  if (row >= params.rows) {
    return;
  }
  let sample = sample_of(row);
  if (row < first_seen(last_tokens[sample])) {
    scores[i] = -1e30;
    return;
  }
  let head = i % params.heads;
  let query = (sample * params.heads + head) * D4;
  let key = (row * params.kv_heads + head / (params.heads / params.kv_heads)) * D4;
  var product = 0.0;
  for (var d = 0u; d < D4; d++) {
    product += dot(vec4<f32>(q[query + d]), vec4<f32>(k[key + d]));
  }
  scores[i] = score_of(product);
}
