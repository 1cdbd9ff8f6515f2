// One workgroup per sample. stats [B,3]: largest scaled logit, log of the sum of exp(logit - largest), sum of the target.
@group(0) @binding(0) var<storage, read> logits: array<f32>;
@group(0) @binding(2) var<storage, read_write> losses: array<f32>;
@group(0) @binding(3) var<storage, read_write> stats: array<f32>;

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let b = group_index(wg, count);
  let labels = select(0u, params.labels, b < params.rows); // no early return: see rms-norm
  var peak = -3.4e38f;
  for (var l = lane; l < labels; l += LANES) {
    peak = max(peak, logits[b * labels + l] * params.scale);
  }
  peak = workgroup_max(peak, lane);
  var exponentials = 0.0f;
  var weighted = 0.0f;
  var weights = 0.0f;
  for (var l = lane; l < labels; l += LANES) {
    let shifted = logits[b * labels + l] * params.scale - peak;
    let t = wanted(b, l);
    exponentials += exp(shifted);
    weighted += t * shifted;
    weights += t;
  }
  let logSum = log(workgroup_sum(exponentials, lane));
  let target_sum = workgroup_sum(weights, lane);
  let target_dot = workgroup_sum(weighted, lane);
  if (lane == 0u && labels > 0u) {
    losses[b] = logSum * target_sum - target_dot;
    stats[3u * b] = peak;
    stats[3u * b + 1u] = logSum;
    stats[3u * b + 2u] = target_sum;
  }
}
