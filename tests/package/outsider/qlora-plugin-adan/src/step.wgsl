@group(0) @binding(0) var<storage, read_write> value: array<f32>;
@group(0) @binding(1) var<storage, read> grad: array<u32>;
@group(0) @binding(2) var<storage, read_write> mean: array<f32>;
@group(0) @binding(3) var<storage, read_write> change: array<f32>;
@group(0) @binding(4) var<storage, read_write> square: array<f32>;
@group(0) @binding(5) var<storage, read_write> before: array<f32>;
@group(0) @binding(6) var<storage, read> gradState: array<f32>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let i = group_index(wg, count) * 256u + lane;
  if (gradState[FOUND_INF] != 0.0 || i >= params.size || (grad[i] & 0x7f800000u) == 0x7f800000u) {
    return;
  }
  let g = bitcast<f32>(grad[i]) * gradState[CLIP_COEF];
  let d = select(g - before[i], 0.0, params.first == 1u);
  before[i] = g;
  let m = params.beta1 * mean[i] + (1.0 - params.beta1) * g;
  let v = params.beta2 * change[i] + (1.0 - params.beta2) * d;
  let look = g + params.beta2 * d;
  let n = params.beta3 * square[i] + (1.0 - params.beta3) * look * look;
  mean[i] = m;
  change[i] = v;
  square[i] = n;
  let rate = params.learningRate / (sqrt(n / params.correction3) + params.eps);
  let moved = value[i] - rate * (m / params.correction1 + params.beta2 * v / params.correction2);
  value[i] = moved / (1.0 + params.learningRate * params.weightDecay);
}
