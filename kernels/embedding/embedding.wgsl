// One invocation per u32 word of an output row: one f32, or two values of 16 bits.
@group(0) @binding(0) var<storage, read> ids: array<u32>;
@group(0) @binding(1) var<storage, read> table: array<u32>;
@group(0) @binding(2) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let i = group_index(wg, count) * 256u + lane;
  if (i >= params.tokens * params.words) {
    return;
  }
  // Ids below the chunk wrap round and fall outside it too.
  let row = ids[i / params.words] - params.firstRow;
  let inside = row < params.rows;
  if (!inside && params.first == 0u) {
    return; // another chunk's row
  }
  var word = 0u;
  if (inside) {
    word = table[row * params.words + i % params.words];
  }
  store(i, word);
}
