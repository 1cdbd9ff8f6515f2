// One invocation to a vec4 of a row and kv head: gradient of the keys, or (WEIGHTS = 1) of the values. Only the last row of a
// sample asks, so a row's gradient is that query (or its output's gradient) times one factor a head.
@group(0) @binding(0) var<storage, read> source: array<X4>;
@group(0) @binding(1) var<storage, read> segments: array<vec2<u32>>;
@group(0) @binding(2) var<storage, read> last_tokens: array<u32>;
@group(0) @binding(3) var<storage, read> factors: array<f32>;
@group(0) @binding(4) var<storage, read> lse: array<f32>;
@group(0) @binding(5) var<storage, read_write> y: array<X4>;

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let i = group_index(wg, count) * THREADS + lane;
  let row = i / (params.kv_heads * D4);
  if (row >= params.rows) {
    return;
  }
  let kv_head = i / D4 % params.kv_heads;
  let sample = sample_of(row);
  let shared_by = params.heads / params.kv_heads;
  var acc = vec4<f32>();
  if (row >= first_seen(last_tokens[sample])) {
    for (var head = kv_head * shared_by; head < (kv_head + 1) * shared_by; head++) {
      var factor = factors[row * params.heads + head];
      if (WEIGHTS == 1) {
        factor = exp(factor - lse[sample * params.heads + head]);
      }
      acc += factor * vec4<f32>(source[(sample * params.heads + head) * D4 + i % D4]);
    }
  }
  y[i] = X4(acc);
}
