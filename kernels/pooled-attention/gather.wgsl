// One invocation to a vec4 of a sample's head: rows of `source` (keys or values) times one factor each: what stands in
// `factors`, or (WEIGHTS = 1) the weight that softmax makes of it.
@group(0) @binding(0) var<storage, read> source: array<X4>;
@group(0) @binding(1) var<storage, read> segments: array<vec2<u32>>;
@group(0) @binding(2) var<storage, read> last_tokens: array<u32>;
@group(0) @binding(3) var<storage, read> factors: array<f32>;
@group(0) @binding(4) var<storage, read> maxima: array<f32>;
@group(0) @binding(5) var<storage, read_write> y: array<X4>;

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let i = group_index(wg, count) * THREADS + lane;
  let query = i / D4;
  if (query >= params.samples * params.heads) {
    return;
  }
  let head = query % params.heads;
  let kv_head = head / (params.heads / params.kv_heads);
  let last = last_tokens[query / params.heads];
  var acc = vec4<f32>();
  var total = 0.0;
  for (var j = first_seen(last); j <= last; j++) {
    var factor = factors[j * params.heads + head];
    if (WEIGHTS == 1) {
      factor = exp(factor - maxima[query]);
      total += factor;
    }
    acc += factor * vec4<f32>(source[(j * params.kv_heads + kv_head) * D4 + i % D4]);
  }
  if (WEIGHTS == 1) {
    acc *= 1.0 / total;
  }
  y[i] = X4(acc);
}
