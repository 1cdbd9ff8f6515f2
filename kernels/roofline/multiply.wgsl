// Eight chains of fused multiply-adds a lane, enough to hide their latency; nothing is read while they run.
@group(0) @binding(0) var<storage, read> seeds: array<f32>;
@group(0) @binding(1) var<storage, read_write> sums: array<f32>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, @builtin(local_invocation_index) li: u32) {
  let factor = X4(X(seeds[0]));
  var a: array<X4, 8>;
  for (var c = 0u; c < 8u; c++) {
    a[c] = X4(X(seeds[c]));
  }
  for (var turn = 0u; turn < params.turns; turn++) {
    a[0] = fma(a[0], factor, a[0]);
    a[1] = fma(a[1], factor, a[1]);
    a[2] = fma(a[2], factor, a[2]);
    a[3] = fma(a[3], factor, a[3]);
    a[4] = fma(a[4], factor, a[4]);
    a[5] = fma(a[5], factor, a[5]);
    a[6] = fma(a[6], factor, a[6]);
    a[7] = fma(a[7], factor, a[7]);
  }
  let sum = a[0] + a[1] + a[2] + a[3] + a[4] + a[5] + a[6] + a[7];
  sums[group_index(wg, count) * 256u + li] = f32(sum.x + sum.y + sum.z + sum.w);
}
