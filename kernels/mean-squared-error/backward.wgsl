// dOutputs = 2 (output - target) / L * dLoss
@group(0) @binding(0) var<storage, read> outputs: array<f32>;
@group(0) @binding(1) var<storage, read> targets: array<f32>;
@group(0) @binding(2) var<storage, read> dLosses: array<f32>;
@group(0) @binding(3) var<storage, read_write> dOutputs: array<f32>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let i = group_index(wg, count) * 256u + lane;
  let b = i / params.labels;
  if (b >= params.rows) {
    return;
  }
  dOutputs[i] = 2.0f * (outputs[i] - targets[i]) / f32(params.labels) * dLosses[b];
}
