// Bits are tested, not values: a compiler may assume that floats are finite. Halves come two to a word.
@group(0) @binding(0) var<storage, read> words: array<u32>;
@group(0) @binding(1) var<storage, read_write> counters: array<atomic<u32>>;

var<workgroup> found: atomic<u32>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let first = group_index(wg, count) * 256u * PER_LANE + lane;
  var bad = 0u;
  for (var k = 0u; k < PER_LANE; k++) {
    let i = first + k * 256u;
    if (i * PER_WORD >= params.size) {
      break;
    }
    let word = words[i];
    if (PER_WORD == 1u) {
      bad += select(0u, 1u, (word & 0x7f800000u) == 0x7f800000u);
    } else {
      bad += select(0u, 1u, (word & 0x7c00u) == 0x7c00u);
      bad += select(0u, 1u, (word & 0x7c000000u) == 0x7c000000u && 2u * i + 1u < params.size);
    }
  }
  if (bad > 0u) {
    atomicAdd(&found, bad);
  }
  workgroupBarrier();
  if (lane == 0u) {
    let total = atomicLoad(&found);
    if (total > 0u) {
      atomicAdd(&counters[params.slot], total);
    }
  }
}
