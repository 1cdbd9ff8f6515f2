// One workgroup of torch's sum of f32 values (core/formats/torch-mean.ts): what each of its LANES lanes adds up, and the lanes added
// up in order. READING: 0 four neighbors at a time, 1 one by one, four steps at a time, 2 the sums of other workgroups.
@group(0) @binding(0) var<storage, read> values: array<f32>;
@group(0) @binding(1) var<storage, read_write> sums: array<f32>;

var<workgroup> lanes: array<f32, LANES>;

fn lane_sum(group: u32, lane: u32) -> f32 {
  let step = LANES * params.groups;
  var own = vec4f();
  var at = group * LANES + lane;
  if (READING == 0u) {
    for (; at * 4u + 4u <= params.size; at += step) {
      own += vec4f(values[at * 4u], values[at * 4u + 1u], values[at * 4u + 2u], values[at * 4u + 3u]);
    }
    let tail = params.size - params.size % 4u + lane;
    if (group == 0u && tail < params.size) {
      own.x += values[tail];
    }
  } else if (READING == 1u) {
    for (; at + 3u * step < params.size; at += 4u * step) {
      own += vec4f(values[at], values[at + step], values[at + 2u * step], values[at + 3u * step]);
    }
    for (var i = 0u; i < 4u && at < params.size; i++) {
      own[i] += values[at];
      at += step;
    }
  } else {
    for (; at < params.size; at += step) {
      own.x += values[at];
    }
  }
  return ((own.x + own.y) + own.z) + own.w;
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, @builtin(local_invocation_index) li: u32) {
  let group = group_index(wg, count);
  let inside = group < params.groups;
  for (var lane = li; lane < LANES; lane += 256u) {
    lanes[lane] = lane_sum(group, lane);
  }
  workgroupBarrier();
  // Halves until a warp is left, then its neighbors.
  for (var half = LANES / 2u; half >= 32u; half = half / 2u) {
    for (var lane = li; lane < half; lane += 256u) {
      lanes[lane] += lanes[lane + half];
    }
    workgroupBarrier();
  }
  for (var offset = 1u; offset < min(LANES, 32u); offset = offset * 2u) {
    if (li < min(LANES, 32u) && li % (2u * offset) == 0u) {
      lanes[li] += lanes[li + offset];
    }
    workgroupBarrier();
  }
  if (inside && li == 0u) {
    sums[params.at + group] = lanes[0] * params.factor;
  }
}
