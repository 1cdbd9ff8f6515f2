// dUp takes the place of the incoming gradient.
@group(0) @binding(0) var<storage, read> gate: array<XV>;
@group(0) @binding(1) var<storage, read> up: array<XV>;
@group(0) @binding(2) var<storage, read_write> dY: array<XV>;
@group(0) @binding(3) var<storage, read_write> dGate: array<XV>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let i = group_index(wg, count) * 256u + lane;
  if (i < params.size) {
    let g = FV(gate[i]);
    let d = FV(dY[i]);
    let z = argument(g);
    let s = sigmoid(z);
    let slope = s + g * s * sigmoid(-z) * argument_slope(g);
    dGate[i] = XV(d * FV(up[i]) * slope);
    dY[i] = XV(d * g * s);
  }
}
