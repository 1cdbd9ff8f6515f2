// 1 / x rounded to nearest even, which WGSL's division need not be: 24 bits of 2^47 / mantissa by long division.
// The quotient of two 24-bit numbers is never halfway between two floats, so the remainder decides the rounding.
fn reciprocal(x: f32) -> f32 {
  let bits = bitcast<u32>(x);
  let exponent = bits >> 23u;
  let mantissa = (bits & 0x7fffffu) | 0x800000u;
  if (exponent == 0u || exponent > 252u) {
    return 0.0; // below 2^-126 a block counts as zeros; above 2^126 the reciprocal would be subnormal
  }
  if (mantissa == 0x800000u) {
    return bitcast<f32>((254u - exponent) << 23u);
  }
  var quotient = 0u;
  var rest = 0x800000u;
  for (var i = 0u; i < 24u; i++) {
    rest = rest << 1u;
    quotient = quotient << 1u;
    if (rest >= mantissa) {
      rest -= mantissa;
      quotient |= 1u;
    }
  }
  if (2u * rest > mantissa) {
    quotient += 1u;
  }
  return bitcast<f32>(((253u - exponent) << 23u) + (quotient - 0x800000u));
}
