// Means of squared gradients along columns; a thread per column. A vector is one row, so this is its variance.
@group(0) @binding(0) var<storage, read_write> factors: array<f32>;
@group(0) @binding(1) var<storage, read> grad: array<u32>;
@group(0) @binding(2) var<storage, read> owner_of: array<u32>;
@group(0) @binding(3) var<storage, read> owners: array<Owner>;
@group(0) @binding(4) var<storage, read> gradState: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let column = params.rows + group_index(wg, count) * 64u + lane;
  if (gradState[FOUND_INF] != 0.0 || column >= params.factors) {
    return;
  }
  let owner = owners[owner_of[column]];
  var at = owner.start + column - owner.firstColumn;
  var sum = 0.0;
  for (var r = 0u; r < owner.rows; r++) {
    let g = gradient(at);
    sum += g * g;
    at += owner.columns;
  }
  factors[column] += params.share * (sum / f32(owner.rows) - factors[column]);
}
