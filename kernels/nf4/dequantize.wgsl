// Eight weights per invocation: one word of codes, where there are codes. Which rows and columns they are does not matter.
@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let i = group_index(wg, count) * 256u + lane;
  if (i < params.words) {
    let word = params.first_word + i;
    store(i * 2u, weight_four(word * 2u));
    store(i * 2u + 1u, weight_four(word * 2u + 1u));
  }
}
