// Both activations are x * sigmoid(z(x)): tanh's form of GELU because 1 + tanh(u) = 2 sigmoid(2u), SiLU with z = x.
fn sigmoid(z: FV) -> FV {
  return 1.0f / (1.0f + exp(-max(z, FV(-80.0)))); // below -80 the exponential nears f32's end
}
