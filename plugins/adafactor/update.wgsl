/// The update of element i before clipping: gradient / max(sqrt(estimate), eps1).
fn update(i: u32, index: u32) -> f32 {
  let owner = owners[index];
  let at = i - owner.start;
  var estimate = factors[owner.firstColumn + at % owner.columns];
  if (owner.isMatrix != 0u) {
    estimate *= factors[owner.firstRow + at / owner.columns] / scales[index].x;
  }
  return gradient(i) * inverseSqrt(max(estimate, params.eps1 * params.eps1));
}
