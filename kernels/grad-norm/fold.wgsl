// Folds the partial sums of all slabs into gradState = [coefficient, skip, norm, 0], written as bits to hold infinity.
@group(0) @binding(0) var<storage, read> partials: array<vec2<f32>>;
@group(0) @binding(1) var<storage, read_write> gradState: array<u32>;

var<workgroup> shared_sums: array<vec2<f32>, 256>;

@compute @workgroup_size(256)
fn main(@builtin(local_invocation_index) lane: u32) {
  var sum = vec2<f32>();
  for (var i = lane; i < params.count; i += 256u) {
    sum += partials[i];
  }
  shared_sums[lane] = sum;
  for (var half = 128u; half > 0u; half /= 2u) {
    workgroupBarrier();
    if (lane < half) {
      shared_sums[lane] += shared_sums[lane + half];
    }
  }
  if (lane != 0u) {
    return;
  }
  let total = shared_sums[0];
  // A sum that left f32 has no usable norm: it counts as not finite.
  let overflow = (bitcast<u32>(total.x) & 0x7f800000u) == 0x7f800000u;
  if (total.y != 0.0 || overflow) {
    gradState[CLIP_COEF] = 0u;
    gradState[FOUND_INF] = bitcast<u32>(1.0);
    gradState[TOTAL_NORM] = 0x7f800000u;
  } else {
    let norm = sqrt(total.x) / params.lossScale;
    var clip = 1.0;
    if (params.maxNorm > 0.0) {
      clip = min(1.0, params.maxNorm / (norm + 1e-6));
    }
    gradState[CLIP_COEF] = bitcast<u32>(clip / params.lossScale);
    gradState[FOUND_INF] = 0u;
    gradState[TOTAL_NORM] = bitcast<u32>(norm);
  }
  gradState[3] = 0u;
}
