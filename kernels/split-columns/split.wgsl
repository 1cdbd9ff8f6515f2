// Columns `from` on of wide rows, to rows of their own or (JOIN) back.
@group(0) @binding(0) var<storage, read> source: array<XV>;
@group(0) @binding(1) var<storage, read_write> dest: array<XV>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let i = group_index(wg, count) * 256u + lane;
  if (i < params.size) {
    let wide = (i / params.columns) * params.stride + params.from_column + i % params.columns;
    if (JOIN == 1u) {
      dest[wide] = source[i];
    } else {
      dest[i] = source[wide];
    }
  }
}
