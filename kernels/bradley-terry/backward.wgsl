// s = sigmoid(rejected - chosen + margin); dChosen = (2 center sum - s) dLoss, dRejected = (2 center sum + s) dLoss
@group(0) @binding(0) var<storage, read> scores: array<f32>;
@group(0) @binding(1) var<storage, read> margins: array<f32>;
@group(0) @binding(2) var<storage, read> dLosses: array<f32>;
@group(0) @binding(3) var<storage, read_write> dScores: array<f32>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let p = group_index(wg, count) * 256u + lane;
  if (p >= params.pairs) {
    return;
  }
  let chosen = scores[2u * p];
  let rejected = scores[2u * p + 1u];
  let slope = sigmoid(rejected - chosen + margins[p]);
  let pull = 2.0f * params.center * (chosen + rejected);
  dScores[2u * p] = (pull - slope) * dLosses[p];
  dScores[2u * p + 1u] = (pull + slope) * dLosses[p];
}
