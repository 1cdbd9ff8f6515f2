// Sum of squares and a non-finite mark for each chunk of 4 * VECTORS gradients.
@group(0) @binding(0) var<storage, read> grad: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read_write> partials: array<vec2<f32>>;

var<workgroup> shared_sums: array<vec2<f32>, 256>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let group = group_index(wg, count);
  let end = min((group + 1u) * VECTORS, params.vectors);
  var sum = vec2<f32>();
  for (var i = group * VECTORS + lane; i < end; i += 256u) {
    // Tested and masked as bits: compilers may assume that floats are finite.
    let bits = grad[i];
    let finite = (bits & vec4<u32>(0x7f800000u)) != vec4<u32>(0x7f800000u);
    let g = bitcast<vec4<f32>>(select(vec4<u32>(), bits, finite));
    sum += vec2<f32>(dot(g, g), select(1.0, 0.0, all(finite)));
  }
  shared_sums[lane] = sum;
  for (var half = 128u; half > 0u; half /= 2u) {
    workgroupBarrier();
    if (lane < half) {
      shared_sums[lane] += shared_sums[lane + half];
    }
  }
  if (lane == 0u && group < params.groups) {
    partials[params.first + group] = shared_sums[0];
  }
}
