// 256 absmax values around their mean to 8 bits, one to a lane. `nested` holds the map, the mean, and takes the nested absmax.
@group(0) @binding(0) var<storage, read> absmax: array<f32>;
@group(0) @binding(1) var<storage, read_write> codes: array<u32>;
@group(0) @binding(2) var<storage, read_write> nested: array<f32>;

var<workgroup> largest: array<u32, 256>;
var<workgroup> bytes: array<u32, 256>;

// The entry nearest to x: a binary search that ends on an even index, then the midpoint to the neighbor on the side of x.
fn nearest_code(x: f32) -> u32 {
  var pivot = 127u;
  for (var stride = 64u; stride > 0u; stride = stride / 2u) {
    pivot = select(pivot - stride, pivot + stride, x > nested[pivot]);
  }
  let value = nested[pivot];
  if (x > value) {
    let next = min(pivot + 1u, 255u);
    return select(pivot, next, x > (nested[next] + value) * 0.5);
  }
  let next = max(pivot, 1u) - 1u;
  return select(pivot, next, x < (nested[next] + value) * 0.5);
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, @builtin(local_invocation_index) li: u32) {
  let group = group_index(wg, count);
  let i = group * 256u + li;
  let inside = i < params.size;
  var centred = 0.0;
  if (inside) {
    centred = absmax[i] - nested[256];
  }
  largest[li] = bitcast<u32>(abs(centred));
  workgroupBarrier();
  for (var step = 128u; step > 0u; step = step / 2u) {
    if (li < step) {
      largest[li] = max(largest[li], largest[li + step]);
    }
    workgroupBarrier();
  }
  let most = bitcast<f32>(largest[0]);
  bytes[li] = select(0u, nearest_code(centred * reciprocal(most)), inside);
  workgroupBarrier();
  if (li == 0u && inside) {
    nested[257u + group] = most;
  }
  if (li % 4u == 0u && inside) {
    codes[i / 4u] = bytes[li] | (bytes[li + 1u] << 8u) | (bytes[li + 2u] << 16u) | (bytes[li + 3u] << 24u);
  }
}
