// c = bf16(alpha * a * b + beta * d) for each matrix of a chunk; a [rows, depth], b [depth, columns], or [columns, depth]
// where TRANSPOSED. A thread sums 4 x 4 elements, eight apart so that neighbors read neighbors.
@group(0) @binding(0) var<storage, read_write> c: array<f32>;
@group(0) @binding(1) var<storage, read> a: array<f32>;
@group(0) @binding(2) var<storage, read> b: array<f32>;
@group(0) @binding(3) var<storage, read> d: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let group = group_index(wg, count);
  let across = (params.columns + 31u) / 32u;
  let tiles = across * ((params.rows + 31u) / 32u);
  let matrix = group / tiles;
  if (matrix >= params.matrices) {
    return;
  }
  let tile = group % tiles;
  let row = vec4<u32>(tile / across * 32u + lane / 8u) + vec4<u32>(0u, 8u, 16u, 24u);
  let column = vec4<u32>(tile % across * 32u + lane % 8u) + vec4<u32>(0u, 8u, 16u, 24u);
  // What lies outside reads the last row or column, and is not stored.
  let from_a = vec4<u32>(matrix * params.rows * params.depth) + min(row, vec4<u32>(params.rows - 1u)) * params.depth;
  let inside = min(column, vec4<u32>(params.columns - 1u));
  var from_b = vec4<u32>(matrix * params.columns * params.depth) + select(inside, inside * params.depth, TRANSPOSED == 1u);
  let stride = select(params.columns, 1u, TRANSPOSED == 1u);
  var sum = mat4x4<f32>();
  for (var k = 0u; k < params.depth; k++) {
    let right = vec4<f32>(b[from_b.x], b[from_b.y], b[from_b.z], b[from_b.w]);
    sum[0] += a[from_a.x + k] * right;
    sum[1] += a[from_a.y + k] * right;
    sum[2] += a[from_a.z + k] * right;
    sum[3] += a[from_a.w + k] * right;
    from_b += vec4<u32>(stride);
  }
  for (var r = 0u; r < 4u; r++) {
    for (var k = 0u; k < 4u; k++) {
      if (row[r] < params.rows && column[k] < params.columns) {
        let at = (matrix * params.rows + row[r]) * params.columns + column[k];
        var result = params.alpha * sum[r][k];
        if (params.beta != 0.0) {
          result += params.beta * d[at];
        }
        c[at] = bf16(result);
      }
    }
  }
}
