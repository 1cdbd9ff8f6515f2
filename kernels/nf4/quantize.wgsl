// One block of 64 weights per invocation.
@group(0) @binding(0) var<storage, read> values: array<f32>;
@group(0) @binding(1) var<storage, read_write> codes: array<u32>;
@group(0) @binding(2) var<storage, read_write> absmax: array<f32>;

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

fn code_of(x: f32) -> u32 {
  var code = 0u;
  for (var i = 0u; i < 15u; i++) {
    code += select(0u, 1u, x > THRESHOLDS[i]);
  }
  return code;
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let block = group_index(wg, count) * 64u + lane;
  if (block * 64u >= params.size) {
    return;
  }
  let end = min(block * 64u + 64u, params.size);
  var largest = 0.0;
  for (var i = block * 64u; i < end; i++) {
    largest = max(largest, abs(values[i]));
  }
  absmax[block] = largest;
  let scale = reciprocal(largest);
  for (var word = 0u; word < 8u; word++) {
    let first = block * 64u + word * 8u;
    if (first >= params.size) {
      break;
    }
    var packed = 0u;
    for (var j = 0u; j < 8u; j++) {
      if (first + j < params.size) {
        // Element 2k lies in the high nibble of byte k.
        packed |= code_of(values[first + j] * scale) << (4u * (j ^ 1u));
      }
    }
    codes[first / 8u] = packed;
  }
}
