@group(0) @binding(0) var<storage, read_write> value: array<f32>;
@group(0) @binding(1) var<storage, read> grad: array<u32>;
@group(0) @binding(2) var<storage, read_write> buffer: array<f32>;
@group(0) @binding(3) var<storage, read> gradState: array<f32>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let i = group_index(wg, count) * 256u + lane;
  if (gradState[FOUND_INF] != 0.0 || i >= params.size) {
    return;
  }
  // Tested as bits: compilers may assume that floats are finite.
  let bits = grad[i];
  if ((bits & 0x7f800000u) == 0x7f800000u) {
    buffer[i] = 0.0;
    return;
  }
  let before = value[i];
  let g = bitcast<f32>(bits) * gradState[CLIP_COEF] + params.weightDecay * before;
  let moved = params.momentum * buffer[i] + params.share * g;
  buffer[i] = moved;
  value[i] = before - params.learningRate * select(moved, g + params.momentum * moved, params.nesterov != 0u);
}
