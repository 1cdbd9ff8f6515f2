// dLogits = (softmax * sum(target) - target) * dLoss * scale; the softmax is that of logits * scale
@group(0) @binding(0) var<storage, read> logits: array<f32>;
@group(0) @binding(2) var<storage, read> dLosses: array<f32>;
@group(0) @binding(3) var<storage, read> stats: array<f32>;
@group(0) @binding(4) var<storage, read_write> dLogits: array<f32>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let i = group_index(wg, count) * 256u + lane;
  let b = i / params.labels;
  if (b >= params.rows) {
    return;
  }
  let probability = exp(logits[i] * params.scale - stats[3u * b] - stats[3u * b + 1u]);
  dLogits[i] = (probability * stats[3u * b + 2u] - wanted(b, i % params.labels)) * dLosses[b] * params.scale;
}
