/**
 * WGSL of `softplus(x)`, log(1 + e^x), and `sigmoid(x)`, its derivative: neither overflows, and both keep their relative
 * precision where they are small.
 */
export const SIGMOID = `fn log_one_plus(small: f32) -> f32 {
  // f32 has few digits of 1 + small left: a series is exact to them.
  return select(log(1.0f + small), small - small * small * 0.5f, small < 0.001f);
}
fn softplus(x: f32) -> f32 { return select(0.0f, x, x > 0.0f || x != x) + log_one_plus(exp(-abs(x))); }
fn sigmoid(x: f32) -> f32 {
  let e = exp(-abs(x));
  return select(e, 1.0f, x >= 0.0f) / (1.0f + e);
}
`;
