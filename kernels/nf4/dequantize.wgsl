// One word of codes, eight weights, per invocation. A block of 64 flattened weights is eight words, whatever the rows.
@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let i = group_index(wg, count) * 256u + lane;
  if (i < params.words) {
    let word = params.first_word + i;
    let bits = nf4_codes[word];
    let scale = nf4_scale(word / 8u);
    store(i * 2u, nf4_round(nf4_four(bits) * scale));
    store(i * 2u + 1u, nf4_round(nf4_four(bits >> 16u) * scale));
  }
}
