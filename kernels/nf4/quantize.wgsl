// A lane holds PER_THREAD code words, eight weights each, of neighbors in memory; SHARERS lanes hold a block, and find its absmax
// as the largest of their bits, which are ordered as magnitudes are.
@group(0) @binding(0) var<storage, read> values: array<u32>;
@group(0) @binding(1) var<storage, read_write> codes: array<u32>;
@group(0) @binding(2) var<storage, read_write> absmax: array<f32>;

var<workgroup> largest: array<u32, 256>;

fn magnitudes(v: vec4f) -> u32 {
  let bits = bitcast<vec4u>(v) & vec4u(0x7fffffffu);
  return max(max(bits.x, bits.y), max(bits.z, bits.w));
}

// Four weights, zeros behind the last.
fn four(quad: u32) -> vec4f {
  let v = load_four(quad);
  let index = vec4u(4u * quad) + vec4u(0u, 1u, 2u, 3u);
  return select(vec4f(), v, index < vec4u(params.size));
}

fn nibbles(v: vec4f, scale: f32, quad: u32) -> u32 {
  let scaled = v * scale;
  let index = vec4u(4u * quad) + vec4u(0u, 1u, 2u, 3u);
  let code = vec4u(code_of(scaled.x), code_of(scaled.y), code_of(scaled.z), code_of(scaled.w));
  let kept = select(vec4u(), code, index < vec4u(params.size));
  // Element 2k lies in the high nibble of byte k.
  return (kept.x << 4u) | kept.y | (kept.z << 12u) | (kept.w << 8u);
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, @builtin(local_invocation_index) li: u32) {
  let group = group_index(wg, count);
  let first = group * 256u * PER_THREAD;
  var low: array<vec4f, PER_THREAD>;
  var high: array<vec4f, PER_THREAD>;
  var own = 0u;
  for (var i = 0u; i < PER_THREAD; i++) {
    let word = first + i * 256u + li;
    low[i] = four(2u * word);
    high[i] = four(2u * word + 1u);
    own = max(own, max(magnitudes(low[i]), magnitudes(high[i])));
  }
  largest[li] = own;
  workgroupBarrier();
  for (var step = SHARERS / 2u; step > 0u; step = step / 2u) {
    if (li % SHARERS < step) {
      largest[li] = max(largest[li], largest[li + step]);
    }
    workgroupBarrier();
  }
  let bits = largest[li - li % SHARERS];
  let block = (first + li) * 8u / BLOCK;
  if (li % SHARERS == 0u && first * 8u + li * 8u < params.size) {
    absmax[params.first_block + block] = bitcast<f32>(bits);
    if (bits >= 0x7f800000u) {
      tell();
    }
  }
  let scale = reciprocal(bitcast<f32>(bits));
  for (var i = 0u; i < PER_THREAD; i++) {
    let word = first + i * 256u + li;
    if (word * 8u < params.size) {
      codes[params.first_word + word] = nibbles(low[i], scale, 2u * word) | (nibbles(high[i], scale, 2u * word + 1u) << 16u);
    }
  }
}
