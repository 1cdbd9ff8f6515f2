struct Moved {
  value: vec4<f32>,
  momentum: vec4<f32>,
}

/// Lion's update of four elements; one whose gradient is not finite keeps its value and its momentum becomes 0.
fn lion(before: vec4<f32>, momentum: vec4<f32>, bits: vec4<u32>, factor: f32) -> Moved {
  // Tested and masked as bits: compilers may assume that floats are finite.
  let finite = (bits & vec4<u32>(0x7f800000u)) != vec4<u32>(0x7f800000u);
  let g = bitcast<vec4<f32>>(select(vec4<u32>(), bits, finite)) * factor;
  let direction = sign(momentum * params.beta1 + params.rest1 * g);
  let after = before * params.decay - params.learningRate * direction;
  return Moved(select(before, after, finite), select(vec4<f32>(), momentum * params.beta2 + params.rest2 * g, finite));
}
