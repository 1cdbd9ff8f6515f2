// Random bits are a hash of counters (pcg4d), so a mask can be drawn again in backward, in any order, by any kernel.
fn random4(row_key: u32, site: u32, column4: u32, seed: u32) -> vec4<u32> {
  var v = vec4<u32>(row_key, site, column4, seed) * 1664525u + 1013904223u;
  v.x += v.y * v.w;
  v.y += v.z * v.x;
  v.z += v.x * v.y;
  v.w += v.y * v.z;
  v ^= v >> vec4<u32>(16u);
  v.x += v.y * v.w;
  v.y += v.z * v.x;
  v.z += v.x * v.y;
  v.w += v.y * v.z;
  return v;
}

// Component k of the result: whether column 4 * column4 + k of the row is kept.
fn dropout_keep4(row_key: u32, site: u32, column4: u32, seed: u32, threshold: u32) -> vec4<bool> {
  return random4(row_key, site, column4, seed) >= vec4<u32>(threshold);
}
