/// The unscaled gradient; 0 where it is not finite (tested as bits: compilers may assume that floats are finite).
fn gradient(i: u32) -> f32 {
  let bits = grad[i];
  return select(0.0, bitcast<f32>(bits) * gradState[CLIP_COEF], (bits & 0x7f800000u) != 0x7f800000u);
}
