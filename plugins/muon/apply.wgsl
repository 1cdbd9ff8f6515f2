@group(0) @binding(0) var<storage, read_write> value: array<f32>;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> starts: array<u32>;
@group(0) @binding(3) var<storage, read> gradState: array<f32>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let e = group_index(wg, count) * 256u + lane;
  let area = params.rows * params.columns;
  if (gradState[FOUND_INF] != 0.0 || e >= params.matrices * area) {
    return;
  }
  let matrix = e / area;
  let within = e % area;
  let turned = (within % params.columns) * params.rows + within / params.columns;
  let i = starts[params.first + matrix] + within;
  value[i] = value[i] * params.decay - params.stepSize * x[matrix * area + select(within, turned, params.rows > params.columns)];
}
