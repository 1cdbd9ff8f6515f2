// One invocation to a sample and head: its largest score, and the logarithm of its softmax's denominator.
@group(0) @binding(0) var<storage, read> scores: array<f32>;
@group(0) @binding(1) var<storage, read> segments: array<vec2<u32>>;
@group(0) @binding(2) var<storage, read> last_tokens: array<u32>;
@group(0) @binding(3) var<storage, read_write> maxima: array<f32>;
@group(0) @binding(4) var<storage, read_write> lse: array<f32>;

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let i = group_index(wg, count) * THREADS + lane;
  if (i >= params.samples * params.heads) {
    return;
  }
  let last = last_tokens[i / params.heads];
  let first = first_seen(last);
  var maximum = -1e30;
  for (var j = first; j <= last; j++) {
    maximum = max(maximum, scores[j * params.heads + i % params.heads]);
  }
  var sum = 0.0;
  for (var j = first; j <= last; j++) {
    sum += exp(scores[j * params.heads + i % params.heads] - maximum);
  }
  maxima[i] = maximum;
  lse[i] = maximum + log(sum);
}
