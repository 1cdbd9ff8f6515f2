// Gradient of the keys (OF_KEYS = 1) or of the values (0): one workgroup to a tile of keys and a kv head, over the
// queries of every head in its group that see the tile.
@group(0) @binding(0) var<storage, read> q: array<X4>;
@group(0) @binding(1) var<storage, read> k: array<X4>;
@group(0) @binding(2) var<storage, read> v: array<X4>;
@group(0) @binding(3) var<storage, read> segments: array<vec2<u32>>;
@group(0) @binding(4) var<storage, read> d_out: array<X4>;
@group(0) @binding(5) var<storage, read> lse: array<f32>;
@group(0) @binding(6) var<storage, read> delta: array<f32>;
@group(0) @binding(7) var<storage, read_write> gradient: array<X4>;

// What each query of a tile adds to each key's gradient, [key, query / 4]: the gradient of their product q.k, which
// goes with the query's row of q, or the weight, which goes with its row of dOut.
var<workgroup> factors: array<vec4<f32>, TILE * TILE / 4>;

fn source(at: u32) -> vec4<f32> {
  if (OF_KEYS == 1) {
    return vec4<f32>(q[at]);
  }
  return vec4<f32>(d_out[at]);
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let group = group_index(wg, count);
  if (group >= params.tiles * params.kv_heads) {
    return;
  }
  let kv_head = group % params.kv_heads;
  let first = group / params.kv_heads * TILE;
  let last = min(first + TILE, params.rows) - 1;
  // The last query that sees a key of the tile; `last + window` may pass 2^32.
  let end = segments[last].y - 1;
  let highest = select(last + params.window - 1, end, end - last < params.window);

  let block_key = lane / 8 * BLOCK;
  let block_row = lane % 8 * 4;
  var key_at: array<u32, BLOCK>;
  for (var r = 0u; r < BLOCK; r++) {
    key_at[r] = (min(first + block_key + r, last) * params.kv_heads + kv_head) * D4;
  }
  let own_column = lane % D4;
  let own_key = lane / D4 * OWN;
  var acc: array<vec4<f32>, OWN>;

  for (var head = kv_head * (params.heads / params.kv_heads); head < (kv_head + 1) * (params.heads / params.kv_heads); head++) {
    for (var base = first; base <= highest; base += TILE) {
      var products = array<vec4<f32>, BLOCK>();
      var d_weights = array<vec4<f32>, BLOCK>();
      var row_at: array<u32, 4>;
      for (var c = 0u; c < 4; c++) {
        row_at[c] = min(base + block_row + c, highest) * params.heads + head;
      }
      for (var d = 0u; d < D4; d++) {
        let q0 = vec4<f32>(q[row_at[0] * D4 + d]);
        let q1 = vec4<f32>(q[row_at[1] * D4 + d]);
        let q2 = vec4<f32>(q[row_at[2] * D4 + d]);
        let q3 = vec4<f32>(q[row_at[3] * D4 + d]);
        for (var r = 0u; r < BLOCK; r++) {
          let x = vec4<f32>(k[key_at[r] + d]);
          products[r] += vec4<f32>(dot(x, q0), dot(x, q1), dot(x, q2), dot(x, q3));
        }
        if (OF_KEYS == 1) {
          let o0 = vec4<f32>(d_out[row_at[0] * D4 + d]);
          let o1 = vec4<f32>(d_out[row_at[1] * D4 + d]);
          let o2 = vec4<f32>(d_out[row_at[2] * D4 + d]);
          let o3 = vec4<f32>(d_out[row_at[3] * D4 + d]);
          for (var r = 0u; r < BLOCK; r++) {
            let y = vec4<f32>(v[key_at[r] + d]);
            d_weights[r] += vec4<f32>(dot(y, o0), dot(y, o1), dot(y, o2), dot(y, o3));
          }
        }
      }
      for (var r = 0u; r < BLOCK; r++) {
        var factor = vec4<f32>(0.0);
        for (var c = 0u; c < 4; c++) {
          let row = base + block_row + c;
          if (row <= highest && sees(row, segments[row].x, first + block_key + r)) {
            let score = score_of(products[r][c]);
            factor[c] = exp(score - lse[row_at[c]]);
            if (OF_KEYS == 1) {
              factor[c] *= (d_weights[r][c] - delta[row_at[c]]) * slope_of(score);
            }
          }
        }
        factors[(block_key + r) * (TILE / 4) + lane % 8] = factor;
      }
      workgroupBarrier();

      if (own_key < TILE) {
        for (var j = 0u; j < TILE / 4; j++) {
          let at = vec4<u32>(base + j * 4) + vec4<u32>(0, 1, 2, 3);
          let from_row = (min(at, vec4<u32>(highest)) * params.heads + head) * D4 + own_column;
          let x0 = source(from_row.x);
          let x1 = source(from_row.y);
          let x2 = source(from_row.z);
          let x3 = source(from_row.w);
          for (var r = 0u; r < OWN; r++) {
            let f = factors[min(own_key + r, TILE - 1) * (TILE / 4) + j];
            acc[r] += f.x * x0 + f.y * x1 + f.z * x2 + f.w * x3;
          }
        }
      }
      workgroupBarrier();
    }
  }

  for (var r = 0u; r < OWN; r++) {
    let key = own_key + r;
    if (key < TILE && first + key <= last) {
      gradient[((first + key) * params.kv_heads + kv_head) * D4 + own_column] = X4(acc[r]);
    }
  }
}
