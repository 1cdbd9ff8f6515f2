// One workgroup per sample.
@group(0) @binding(0) var<storage, read> logits: array<f32>;
@group(0) @binding(1) var<storage, read> targets: array<f32>;
@group(0) @binding(2) var<storage, read_write> losses: array<f32>;

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let b = group_index(wg, count);
  let labels = select(0u, params.labels, b < params.rows); // no early return: see rms-norm
  var entropies = 0.0f;
  for (var l = lane; l < labels; l += LANES) {
    let x = logits[b * labels + l];
    let t = targets[b * labels + l];
    // softplus(x) - x t, without the difference of large numbers where t is 1.
    entropies += select(-x * t, x * (1.0f - t), x > 0.0f || x != x) + log_one_plus(exp(-abs(x)));
  }
  let total = workgroup_sum(entropies, lane);
  if (lane == 0u && labels > 0u) {
    losses[b] = total / f32(labels);
  }
}
