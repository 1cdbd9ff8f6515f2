// One invocation per row and WIDTH pairs (j, j + pairs), for all heads of the row: the angle is worked out once. What a head has
// beyond its pairs is not turned.
@group(0) @binding(0) var<storage, read> segments: array<vec2<u32>>;
@group(0) @binding(1) var<storage, read> inverseFrequencies: array<FV>;
@group(0) @binding(2) var<storage, read_write> y: array<XV>;

// pi/2 in three parts; the first two have 11 bits, so that their products with a quarter count below 8192 are exact.
const HALF_PI_A = 1.5703125f;
const HALF_PI_B = 0.0004837512969970703125f;
const HALF_PI_C = 7.549789948768648e-8f;

struct Turn {
  cosine: FV,
  sine: FV,
}

// Drivers' own sin and cos promise only 2^-11; this is good to about 1e-7 for angles up to 8192.
fn turn(angle: FV) -> Turn {
  let quarters = round(angle * 0.6366197723675814f);
  var r = fma(-quarters, FV(HALF_PI_A), angle);
  r = fma(-quarters, FV(HALF_PI_B), r);
  r = fma(-quarters, FV(HALF_PI_C), r);
  let s = r * r;
  let sine = r + r * s * (-1.0f / 6.0f + s * (1.0f / 120.0f + s * (-1.0f / 5040.0f + s * (1.0f / 362880.0f))));
  let cosine = 1.0f + s * (-0.5f + s * (1.0f / 24.0f + s * (-1.0f / 720.0f + s * (1.0f / 40320.0f - s * (1.0f / 3628800.0f)))));
  let quarter = quarters - 4.0f * floor(quarters * 0.25f);
  let odd = (quarter == FV(1.0)) | (quarter == FV(3.0));
  var result = Turn(select(cosine, sine, odd), select(sine, cosine, odd));
  result.cosine = select(result.cosine, -result.cosine, (quarter == FV(1.0)) | (quarter == FV(2.0)));
  result.sine = select(result.sine, -result.sine, quarter >= FV(2.0));
  return result;
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let i = group_index(wg, count) * 64u + lane;
  let row = i / params.pairs;
  if (row >= params.rows) {
    return;
  }
  let j = i % params.pairs;
  let position = f32(row - segments[row].x);
  let t = turn(position * inverseFrequencies[j]);
  let cosine = t.cosine * params.factor;
  let sine = t.sine * params.factor * params.direction;
  for (var head = 0u; head < params.heads; head++) {
    let at = (row * params.heads + head) * params.head_dim + j;
    let a = load(at);
    let b = load(at + params.pairs);
    y[at] = XV(a * cosine - b * sine);
    y[at + params.pairs] = XV(b * cosine + a * sine);
    for (var rest = 2u * params.pairs; rest + j < params.head_dim; rest += params.pairs) {
      y[at + rest] = XV(load(at + rest));
    }
  }
}
