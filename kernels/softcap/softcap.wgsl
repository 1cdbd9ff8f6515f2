// Forward: y = cap * tanh(x / cap). Backward: y holds the gradient, which is scaled where it lies.
@group(0) @binding(0) var<storage, read_write> y: array<f32>;
@group(0) @binding(1) var<storage, read> x: array<f32>;

// Drivers' tanh may overflow for large arguments and loses small ones.
fn hyperbolic_tangent(u: f32) -> f32 {
  let s = u * u;
  let small = u * (1.0f + s * (-1.0f / 3.0f + s * (2.0f / 15.0f + s * (-17.0f / 315.0f + s * (62.0f / 2835.0f - s * (1382.0f / 155925.0f))))));
  let e = exp(-2.0f * abs(u));
  return select(sign(u) * (1.0f - e) / (1.0f + e), small, s < 0.0625f);
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let i = group_index(wg, count) * 256u + lane;
  if (i >= params.size) {
    return;
  }
  let u = x[i] / params.cap;
  if (BACKWARD == 0u) {
    y[i] = params.cap * hyperbolic_tangent(u);
  } else {
    // 1 - tanh^2 in a form that does not cancel where tanh saturates.
    let e = exp(-2.0f * abs(u));
    y[i] *= 4.0f * e / ((1.0f + e) * (1.0f + e));
  }
}
