// One invocation to a row and head: gradient of the product q.k of the sample's last row with this row.
@group(0) @binding(0) var<storage, read> d_out: array<X4>;
@group(0) @binding(1) var<storage, read> v: array<X4>;
@group(0) @binding(2) var<storage, read> segments: array<vec2<u32>>;
@group(0) @binding(3) var<storage, read> last_tokens: array<u32>;
@group(0) @binding(4) var<storage, read> scores: array<f32>;
@group(0) @binding(5) var<storage, read> lse: array<f32>;
@group(0) @binding(6) var<storage, read> delta: array<f32>;
@group(0) @binding(7) var<storage, read_write> d_products: array<f32>;

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let i = group_index(wg, count) * THREADS + lane;
  let row = i / params.heads;
  if (row >= params.rows) {
    return;
  }
  let sample = sample_of(row);
  if (row < first_seen(last_tokens[sample])) {
    d_products[i] = 0.0;
    return;
  }
  let head = i % params.heads;
  let query = sample * params.heads + head;
  let value = (row * params.kv_heads + head / (params.heads / params.kv_heads)) * D4;
  var d_weight = 0.0;
  for (var d = 0u; d < D4; d++) {
    d_weight += dot(vec4<f32>(d_out[query * D4 + d]), vec4<f32>(v[value + d]));
  }
  d_products[i] = exp(scores[i] - lse[query]) * (d_weight - delta[query]) * slope_of(scores[i]);
}
