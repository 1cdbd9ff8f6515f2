// Gradient of the queries: one workgroup to a tile of queries and a head, over the keys that the tile sees.
@group(0) @binding(0) var<storage, read> q: array<X4>;
@group(0) @binding(1) var<storage, read> k: array<X4>;
@group(0) @binding(2) var<storage, read> v: array<X4>;
@group(0) @binding(3) var<storage, read> segments: array<vec2<u32>>;
@group(0) @binding(4) var<storage, read> d_out: array<X4>;
@group(0) @binding(5) var<storage, read> lse: array<f32>;
@group(0) @binding(6) var<storage, read> delta: array<f32>;
@group(0) @binding(7) var<storage, read_write> d_q: array<X4>;

// Gradients of the products q.k of a tile, [query, key / 4].
var<workgroup> gradients: array<vec4<f32>, TILE * TILE / 4>;

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let group = group_index(wg, count);
  if (group >= params.tiles * params.heads) {
    return;
  }
  let head = group % params.heads;
  let kv_head = head / (params.heads / params.kv_heads);
  let first = (params.tiles - 1 - group / params.heads) * TILE;
  let last = min(first + TILE, params.rows) - 1;
  let lowest = max(segments[first].x, first - min(first, params.window - 1));

  let block_row = lane / 8 * BLOCK;
  let block_key = lane % 8 * 4;
  var row_at: array<u32, BLOCK>; // query and head
  var start: array<u32, BLOCK>;
  for (var r = 0u; r < BLOCK; r++) {
    let row = min(first + block_row + r, last);
    row_at[r] = row * params.heads + head;
    start[r] = segments[row].x;
  }
  let own_column = lane % D4;
  let own_row = lane / D4 * OWN;
  var acc: array<vec4<f32>, OWN>;

  for (var base = lowest; base <= last; base += TILE) {
    var products = array<vec4<f32>, BLOCK>();
    var d_weights = array<vec4<f32>, BLOCK>();
    var key_at: array<u32, 4>;
    for (var c = 0u; c < 4; c++) {
      key_at[c] = (min(base + block_key + c, last) * params.kv_heads + kv_head) * D4;
    }
    for (var d = 0u; d < D4; d++) {
      let k0 = vec4<f32>(k[key_at[0] + d]);
      let k1 = vec4<f32>(k[key_at[1] + d]);
      let k2 = vec4<f32>(k[key_at[2] + d]);
      let k3 = vec4<f32>(k[key_at[3] + d]);
      let v0 = vec4<f32>(v[key_at[0] + d]);
      let v1 = vec4<f32>(v[key_at[1] + d]);
      let v2 = vec4<f32>(v[key_at[2] + d]);
      let v3 = vec4<f32>(v[key_at[3] + d]);
      for (var r = 0u; r < BLOCK; r++) {
        let x = vec4<f32>(q[row_at[r] * D4 + d]);
        products[r] += vec4<f32>(dot(x, k0), dot(x, k1), dot(x, k2), dot(x, k3));
        let y = vec4<f32>(d_out[row_at[r] * D4 + d]);
        d_weights[r] += vec4<f32>(dot(y, v0), dot(y, v1), dot(y, v2), dot(y, v3));
      }
    }
    for (var r = 0u; r < BLOCK; r++) {
      var gradient = vec4<f32>(0.0);
      for (var c = 0u; c < 4; c++) {
        if (sees(first + block_row + r, start[r], base + block_key + c)) {
          let score = score_of(products[r][c]);
          let weight = exp(score - lse[row_at[r]]);
          gradient[c] = weight * (d_weights[r][c] - delta[row_at[r]]) * slope_of(score);
        }
      }
      gradients[(block_row + r) * (TILE / 4) + lane % 8] = gradient;
    }
    workgroupBarrier();

    if (own_row < TILE) {
      for (var j = 0u; j < TILE / 4; j++) {
        let at = vec4<u32>(base + j * 4) + vec4<u32>(0, 1, 2, 3);
        let from_key = (min(at, vec4<u32>(last)) * params.kv_heads + kv_head) * D4 + own_column;
        let k0 = vec4<f32>(k[from_key.x]);
        let k1 = vec4<f32>(k[from_key.y]);
        let k2 = vec4<f32>(k[from_key.z]);
        let k3 = vec4<f32>(k[from_key.w]);
        for (var r = 0u; r < OWN; r++) {
          let g = gradients[min(own_row + r, TILE - 1) * (TILE / 4) + j];
          acc[r] += g.x * k0 + g.y * k1 + g.z * k2 + g.w * k3;
        }
      }
    }
    workgroupBarrier();
  }

  for (var r = 0u; r < OWN; r++) {
    let row = own_row + r;
    if (row < TILE && first + row <= last) {
      d_q[((first + row) * params.heads + head) * D4 + own_column] = X4(acc[r]);
    }
  }
}
