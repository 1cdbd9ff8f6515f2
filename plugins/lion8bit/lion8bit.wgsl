// One workgroup updates one block of 256 elements; a lane holds four of them and their packed codes.
@group(0) @binding(0) var<storage, read_write> value: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> grad: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read_write> codes: array<u32>;
@group(0) @binding(3) var<storage, read_write> absmax: array<f32>;
@group(0) @binding(4) var<storage, read> map: array<f32>;
@group(0) @binding(5) var<storage, read> gradState: array<f32>;

const SMALLEST_NORMAL = 1.17549435e-38;

var<workgroup> entries: array<f32, 256>;
var<workgroup> peaks: array<f32, 64>;

/// The code nearest to x; an exact tie goes to the even index.
fn nearest(x: f32) -> u32 {
  var pivot = 127u;
  for (var stride = 64u; stride > 0u; stride /= 2u) {
    pivot = select(pivot - stride, pivot + stride, x > entries[pivot]);
  }
  let found = entries[pivot];
  let above = x > found;
  let neighbor = select(max(pivot, 1u) - 1u, min(pivot + 1u, 255u), above);
  let middle = (entries[neighbor] + found) * 0.5;
  return select(pivot, neighbor, (above && x > middle) || (!above && x < middle));
}

/// The code of x = m / absmax, but never across zero: a tiny negative m must not become 0.
fn encode(x: f32, m: f32) -> u32 {
  let code = nearest(x);
  if (((bitcast<u32>(entries[code]) ^ bitcast<u32>(m)) >> 31u) == 0u) {
    return code;
  }
  return select(code - 1u, code + 1u, m > 0.0) & 255u;
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let block = group_index(wg, count);
  if (gradState[FOUND_INF] != 0.0 || block >= params.blocks) {
    return;
  }
  for (var k = lane; k < 256u; k += 64u) {
    entries[k] = map[k];
  }
  workgroupBarrier();
  let i = block * 64u + lane;
  let code = (vec4<u32>(codes[i]) >> vec4<u32>(0u, 8u, 16u, 24u)) & vec4<u32>(255u);
  let momentum = vec4<f32>(entries[code.x], entries[code.y], entries[code.z], entries[code.w]) * absmax[block];
  let moved = lion(value[i], momentum, grad[i], gradState[CLIP_COEF]);
  value[i] = moved.value;
  let m = moved.momentum;

  let a = abs(m);
  peaks[lane] = max(max(a.x, a.y), max(a.z, a.w));
  for (var half = 32u; half > 0u; half /= 2u) {
    workgroupBarrier();
    if (lane < half) {
      peaks[lane] = max(peaks[lane], peaks[lane + half]);
    }
  }
  workgroupBarrier();
  // A peak below the normal range cannot divide on every GPU; such a block is zero.
  let peak = select(0.0, peaks[0], peaks[0] >= SMALLEST_NORMAL);
  let x = select(vec4<f32>(), m / select(1.0, peak, peak > 0.0), peak > 0.0);
  let fresh = vec4<u32>(encode(x.x, m.x), encode(x.y, m.y), encode(x.z, m.z), encode(x.w, m.w));
  codes[i] = fresh.x | (fresh.y << 8u) | (fresh.z << 16u) | (fresh.w << 24u);
  if (lane == 0u) {
    absmax[block] = peak;
  }
}
