// One workgroup updates one block of 256 elements; a lane holds four of them and their packed codes.
@group(0) @binding(0) var<storage, read_write> value: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> grad: array<vec4<u32>>;
// First moments of all blocks, then second moments: codes, absmax, and f32 moments of blocks kept exact.
@group(0) @binding(2) var<storage, read_write> codes: array<u32>;
@group(0) @binding(3) var<storage, read_write> absmax: array<f32>;
@group(0) @binding(4) var<storage, read_write> exact: array<vec4<f32>>;
// Signed map, unsigned map (f32 bits), then a word per block: EIGHT_BIT or its place among the exact blocks.
@group(0) @binding(5) var<storage, read> tables: array<u32>;
@group(0) @binding(6) var<storage, read> gradState: array<f32>;
@group(0) @binding(7) var<storage, read_write> applied: array<u32>;

const SIGNED = 0u;
const UNSIGNED = 256u;
const SMALLEST_NORMAL = 1.17549435e-38;

var<workgroup> maps: array<f32, 512>;
var<workgroup> peaks: array<vec2<f32>, 64>;

/// The code nearest to x; an exact tie goes to the even index.
fn nearest(map: u32, x: f32) -> u32 {
  var pivot = 127u;
  for (var stride = 64u; stride > 0u; stride /= 2u) {
    pivot = select(pivot - stride, pivot + stride, x > maps[map + pivot]);
  }
  let found = maps[map + pivot];
  let above = x > found;
  let neighbor = select(max(pivot, 1u) - 1u, pivot + 1u, above);
  let middle = (maps[map + neighbor] + found) * 0.5;
  return select(pivot, neighbor, (above && x > middle) || (!above && x < middle));
}

/// As nearest in the signed map for x = m / absmax, but never across zero: a tiny negative m must not become 0.
fn nearest_signed(x: f32, m: f32) -> u32 {
  let code = nearest(SIGNED, x);
  if (((bitcast<u32>(maps[SIGNED + code]) ^ bitcast<u32>(m)) >> 31u) == 0u) {
    return code;
  }
  return select(code - 1u, code + 1u, m > 0.0) & 255u;
}

fn unpack(map: u32, word: u32) -> vec4<f32> {
  let code = vec4<u32>(word, word >> 8u, word >> 16u, word >> 24u) & vec4<u32>(255u);
  return vec4<f32>(maps[map + code.x], maps[map + code.y], maps[map + code.z], maps[map + code.w]);
}

fn pack(code: vec4<u32>) -> u32 {
  return code.x | (code.y << 8u) | (code.z << 16u) | (code.w << 24u);
}

fn largest(x: vec4<f32>) -> f32 {
  let a = abs(x);
  return max(max(a.x, a.y), max(a.z, a.w));
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let block = group_index(wg, count);
  if (gradState[FOUND_INF] != 0.0 || block >= params.blocks) {
    return;
  }
  let i = block * 64u + lane;
  if (i == 0u) {
    applied[0] = params.update;
  }
  let place = tables[512u + block];
  let quantized = place == EIGHT_BIT;
  let at1 = place * 64u + lane;
  let at2 = at1 + params.exactBlocks * 64u;

  var m: vec4<f32>;
  var v: vec4<f32>;
  if (quantized) {
    for (var k = lane; k < 512u; k += 64u) {
      maps[k] = bitcast<f32>(tables[k]);
    }
    workgroupBarrier();
    m = unpack(SIGNED, codes[i]) * absmax[block];
    v = unpack(UNSIGNED, codes[params.blocks * 64u + i]) * absmax[params.blocks + block];
  } else {
    m = exact[at1];
    v = exact[at2];
  }

  let bits = grad[i];
  let finite = (bits & vec4<u32>(0x7f800000u)) != vec4<u32>(0x7f800000u);
  let g = bitcast<vec4<f32>>(select(vec4<u32>(), bits, finite)) * gradState[CLIP_COEF];
  m = select(vec4<f32>(), params.beta1 * m + params.rest1 * g, finite);
  v = select(vec4<f32>(), params.beta2 * v + params.rest2 * g * g, finite);
  let before = value[i];
  let after = (before + params.stepSize * m / (sqrt(v) + params.epsilon)) * params.decay;
  value[i] = select(before, after, finite);

  if (!quantized) {
    exact[at1] = m;
    exact[at2] = v;
    return;
  }
  peaks[lane] = vec2<f32>(largest(m), largest(v));
  for (var half = 32u; half > 0u; half /= 2u) {
    workgroupBarrier();
    if (lane < half) {
      peaks[lane] = max(peaks[lane], peaks[lane + half]);
    }
  }
  workgroupBarrier();
  // A peak below the normal range cannot divide on every GPU; such a block is zero.
  let peak = select(vec2<f32>(), peaks[0], peaks[0] >= vec2<f32>(SMALLEST_NORMAL));
  let divisor = select(vec2<f32>(1.0), peak, peak > vec2<f32>());
  let x = select(vec4<f32>(), m / divisor.x, peak.x > 0.0);
  let y = select(vec4<f32>(), v / divisor.y, peak.y > 0.0);
  codes[i] = pack(
    vec4<u32>(nearest_signed(x.x, m.x), nearest_signed(x.y, m.y), nearest_signed(x.z, m.z), nearest_signed(x.w, m.w)),
  );
  codes[params.blocks * 64u + i] = pack(
    vec4<u32>(nearest(UNSIGNED, y.x), nearest(UNSIGNED, y.y), nearest(UNSIGNED, y.z), nearest(UNSIGNED, y.w)),
  );
  if (lane == 0u) {
    absmax[block] = peak.x;
    absmax[params.blocks + block] = peak.y;
  }
}
