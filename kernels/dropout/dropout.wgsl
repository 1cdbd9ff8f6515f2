// One invocation per four columns of a row.
@group(0) @binding(0) var<storage, read> rowKeys: array<u32>;
@group(0) @binding(1) var<storage, read_write> y: array<XV>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let id = group_index(wg, count) * 256u + lane;
  let fours = (params.columns + 3u) / 4u;
  let row = id / fours;
  if (row >= params.rows) {
    return;
  }
  let column4 = id % fours;
  let keep = dropout_keep4(rowKeys[row], params.site, column4, params.seed, params.threshold);
  apply(row * params.columns + 4u * column4, 4u * column4, keep);
}
