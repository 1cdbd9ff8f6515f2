// Sums over a chunk of rows, one column to an invocation.
@group(0) @binding(0) var<storage, read> dY: array<X>;
@group(0) @binding(1) var<storage, read> x: array<X>;
@group(0) @binding(2) var<storage, read_write> sums: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let group = group_index(wg, count);
  let across = (params.columns + 63u) / 64u;
  let column = (group % across) * 64u + lane;
  let first = (group / across) * params.chunk;
  if (column >= params.columns || first >= params.rows) {
    return;
  }
  var total = 0.0;
  for (var row = first; row < min(first + params.chunk, params.rows); row++) {
    let i = row * params.columns + column;
    total += f32(dY[i]) * f32(x[i]);
  }
  sums[(group / across) * params.columns + column] = total;
}
