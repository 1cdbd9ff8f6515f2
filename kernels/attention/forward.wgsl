@group(0) @binding(0) var<storage, read> q: array<X4>;
@group(0) @binding(1) var<storage, read> k: array<X4>;
@group(0) @binding(2) var<storage, read> v: array<X4>;
@group(0) @binding(3) var<storage, read> segments: array<vec2<u32>>;
@group(0) @binding(4) var<storage, read_write> out: array<X4>;
@group(0) @binding(5) var<storage, read_write> lse: array<f32>;

// Scores of a tile, [query, key / 4]; then their exponentials.
var<workgroup> scores: array<vec4<f32>, TILE * TILE / 4>;
var<workgroup> weights: array<vec4<f32>, TILE * TILE / 4>;
// Several threads share the softmax of a row; each leaves the maximum of its part here, and in the end its sum.
var<workgroup> parts: array<f32, THREADS>;
var<workgroup> shrink: array<f32, TILE>;

const SHARE = THREADS / TILE; // threads to a row in softmax
const PART = TILE / 4 / SHARE; // vec4s of scores to such a thread

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let group = group_index(wg, count);
  if (group >= params.tiles * params.heads) {
    return;
  }
  let head = group % params.heads;
  let kv_head = head / (params.heads / params.kv_heads);
  let first = (params.tiles - 1 - group / params.heads) * TILE; // the longest rows first
  let last = min(first + TILE, params.rows) - 1;

  let lowest = max(segments[first].x, first - min(first, params.window - 1));
  let block_row = lane / 8 * BLOCK;
  let block_key = lane % 8 * 4;
  var q_at: array<u32, BLOCK>;
  for (var r = 0u; r < BLOCK; r++) {
    q_at[r] = (min(first + block_row + r, last) * params.heads + head) * D4;
  }

  let soft_row = lane / SHARE;
  let soft_start = segments[min(first + soft_row, last)].x;
  var maximum = -1e30;
  var sum = 0.0;

  let own_column = lane % D4;
  let own_row = lane / D4 * OWN;
  var acc: array<vec4<f32>, OWN>;

  for (var base = lowest; base <= last; base += TILE) {
    var s = array<vec4<f32>, BLOCK>();
    var k_at: array<u32, 4>;
    for (var c = 0u; c < 4; c++) {
      k_at[c] = (min(base + block_key + c, last) * params.kv_heads + kv_head) * D4;
    }
    for (var d = 0u; d < D4; d++) {
      let k0 = vec4<f32>(k[k_at[0] + d]);
      let k1 = vec4<f32>(k[k_at[1] + d]);
      let k2 = vec4<f32>(k[k_at[2] + d]);
      let k3 = vec4<f32>(k[k_at[3] + d]);
      for (var r = 0u; r < BLOCK; r++) {
        let x = vec4<f32>(q[q_at[r] + d]);
        s[r] += vec4<f32>(dot(x, k0), dot(x, k1), dot(x, k2), dot(x, k3));
      }
    }
    for (var r = 0u; r < BLOCK; r++) {
      scores[(block_row + r) * (TILE / 4) + lane % 8] = s[r];
    }
    workgroupBarrier();

    var own_max = -1e30;
    var x: array<vec4<f32>, PART>;
    let soft_at = lane * PART;
    let soft_key = base + lane % SHARE * PART * 4;
    for (var i = 0u; i < PART; i++) {
      let raw = scores[soft_at + i];
      for (var c = 0u; c < 4; c++) {
        x[i][c] = -1e30;
        if (sees(first + soft_row, soft_start, soft_key + i * 4 + c)) {
          x[i][c] = score_of(raw[c]);
        }
        own_max = max(own_max, x[i][c]);
      }
    }
    parts[lane] = own_max;
    workgroupBarrier();

    var new_max = maximum;
    for (var i = 0u; i < SHARE; i++) {
      new_max = max(new_max, parts[soft_row * SHARE + i]);
    }
    let factor = exp(maximum - new_max);
    maximum = new_max;
    sum *= factor;
    for (var i = 0u; i < PART; i++) {
      // A row that has seen no key yet has -1e30 as its maximum: hidden keys must weigh nothing there too.
      let p = select(exp(x[i] - new_max), vec4<f32>(0.0), x[i] <= vec4<f32>(-1e30));
      sum += p.x + p.y + p.z + p.w;
      weights[soft_at + i] = p;
    }
    if (lane % SHARE == 0) {
      shrink[soft_row] = factor;
    }
    workgroupBarrier();

    if (own_row < TILE) {
      for (var r = 0u; r < OWN; r++) {
        acc[r] *= shrink[min(own_row + r, TILE - 1)];
      }
      for (var j = 0u; j < TILE / 4; j++) {
        let at = vec4<u32>(base + j * 4) + vec4<u32>(0, 1, 2, 3);
        let from_key = (min(at, vec4<u32>(last)) * params.kv_heads + kv_head) * D4 + own_column;
        let v0 = vec4<f32>(v[from_key.x]);
        let v1 = vec4<f32>(v[from_key.y]);
        let v2 = vec4<f32>(v[from_key.z]);
        let v3 = vec4<f32>(v[from_key.w]);
        for (var r = 0u; r < OWN; r++) {
          let p = weights[min(own_row + r, TILE - 1) * (TILE / 4) + j];
          acc[r] += p.x * v0 + p.y * v1 + p.z * v2 + p.w * v3;
        }
      }
    }
  }

  parts[lane] = sum;
  workgroupBarrier();
  var total = 0.0;
  for (var i = 0u; i < SHARE; i++) {
    total += parts[soft_row * SHARE + i];
  }
  if (lane % SHARE == 0) {
    shrink[soft_row] = 1.0 / total;
    if (first + soft_row <= last) {
      lse[(first + soft_row) * params.heads + head] = maximum + log(total);
    }
  }
  workgroupBarrier();
  if (own_row < TILE) {
    for (var r = 0u; r < OWN; r++) {
      let row = own_row + r;
      if (row < TILE && first + row <= last) {
        out[((first + row) * params.heads + head) * D4 + own_column] = X4(acc[r] * shrink[row]);
      }
    }
  }
}
