// delta = sum over a head of dOut * out: what softmax's derivative subtracts from dP.
@group(0) @binding(0) var<storage, read> d_out: array<X4>;
@group(0) @binding(1) var<storage, read> out: array<X4>;
@group(0) @binding(2) var<storage, read_write> delta: array<f32>;

var<workgroup> parts: array<f32, 64>;

// Eight threads to one head of one row.
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let at = group_index(wg, count) * 8 + lane / 8;
  var sum = 0.0;
  if (at < params.size) {
    for (var d = lane % 8; d < D4; d += 8) {
      sum += dot(vec4<f32>(d_out[at * D4 + d]), vec4<f32>(out[at * D4 + d]));
    }
  }
  parts[lane] = sum;
  workgroupBarrier();
  if (lane % 8 == 0 && at < params.size) {
    var total = 0.0;
    for (var i = 0u; i < 8; i++) {
      total += parts[lane + i];
    }
    delta[at] = total;
  }
}
