// One invocation per pair: scores [2P], the chosen answer's before the rejected one's.
@group(0) @binding(0) var<storage, read> scores: array<f32>;
@group(0) @binding(1) var<storage, read> margins: array<f32>;
@group(0) @binding(2) var<storage, read_write> losses: array<f32>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let p = group_index(wg, count) * 256u + lane;
  if (p >= params.pairs) {
    return;
  }
  let chosen = scores[2u * p];
  let rejected = scores[2u * p + 1u];
  let sum = chosen + rejected;
  losses[p] = softplus(rejected - chosen + margins[p]) + params.center * sum * sum;
}
